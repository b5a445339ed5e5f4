"""Layer-wise adaptive rate scaling on SGD with momentum."""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable("pixpro_keras")
class LARS(keras.optimizers.Optimizer):
    """LARS as self-supervised methods use it.

    For each variable `w` of two or more dimensions:

        g <- g + weight_decay * w
        g <- g * trust_coefficient * |w| / (|g| + epsilon)     (1 when |w| or |g| is 0)
        m <- sgd_momentum * m + g
        w <- w - learning_rate * m

    Variables of one dimension or none (biases, batch norm) are neither decayed nor adapted.

    Args:
        learning_rate: a number or a `keras.optimizers.schedules.LearningRateSchedule`.
        sgd_momentum: in [0, 1).
        l2_decay: weight decay added to the gradient before adaptation, at least 0. Keras's own
            `weight_decay` is decoupled from the gradient, a different thing, and must stay unset.
        trust_coefficient: positive.
        epsilon: added to the gradient's norm.
        **kwargs: what every Keras optimizer takes (`name`, `clipnorm`, ...).

    Reference:
        You et al., 2017, arXiv:1708.03888; exclusions as in the PixPro release.
    """

    def __init__(
        self,
        learning_rate=1.0,
        sgd_momentum: float = 0.9,
        l2_decay: float = 1e-5,
        trust_coefficient: float = 0.001,
        epsilon: float = 1e-8,
        name: str = "lars",
        **kwargs,
    ):
        if not 0 <= sgd_momentum < 1:
            raise ValueError(f"`sgd_momentum` must be in [0, 1). Received: {sgd_momentum}.")
        if l2_decay < 0:
            raise ValueError(f"`l2_decay` must be at least 0. Received: l2_decay={l2_decay}.")
        if trust_coefficient <= 0:
            raise ValueError(
                f"`trust_coefficient` must be positive. Received: {trust_coefficient}."
            )
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.sgd_momentum = sgd_momentum
        self.l2_decay = l2_decay
        self.trust_coefficient = trust_coefficient
        self.epsilon = epsilon

    def build(self, variables: list) -> None:
        """Creates a momentum slot for each variable."""
        if self.built:
            return
        super().build(variables)
        self.momentums = [
            self.add_variable_from_reference(reference_variable=variable, name="momentum")
            for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate) -> None:
        """One step of one variable."""
        learning_rate = ops.cast(learning_rate, variable.dtype)
        gradient = ops.cast(gradient, variable.dtype)
        slot = self.momentums[self._get_variable_index(variable)]
        if len(variable.shape) > 1:
            gradient = gradient + self.l2_decay * variable
            gradient = gradient * self._trust_ratio(variable, gradient)
        momentum = self.sgd_momentum * slot + gradient
        self.assign(slot, momentum)
        self.assign_sub(variable, learning_rate * momentum)

    def _trust_ratio(self, variable, gradient):
        weight_norm = tf.norm(variable)
        gradient_norm = tf.norm(gradient)
        ratio = self.trust_coefficient * weight_norm / (gradient_norm + self.epsilon)
        return ops.where((weight_norm > 0) & (gradient_norm > 0), ratio, 1.0)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "sgd_momentum": self.sgd_momentum,
            "l2_decay": self.l2_decay,
            "trust_coefficient": self.trust_coefficient,
            "epsilon": self.epsilon,
        }
