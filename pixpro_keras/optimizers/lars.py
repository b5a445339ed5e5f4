"""Layer-wise adaptive rate scaling on SGD with momentum."""

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.optimizers.sgd import SGD
from pixpro_keras.utils import checks

__all__ = ["LARS"]


@keras.saving.register_keras_serializable("pixpro_keras")
class LARS(SGD):
    """LARS as self-supervised methods use it.

    For each variable `w` of two or more dimensions:

        g <- g + weight_decay * w
        g <- g * trust_coefficient * |w| / (|g| + epsilon)     (1 when |w| or |g| is 0)
        m <- sgd_momentum * m + g
        w <- w - learning_rate * m

    Variables of one dimension or none (biases, batch norm) are neither decayed nor adapted.

    Args:
        learning_rate: a number or a `keras.optimizers.schedules.LearningRateSchedule`.
        sgd_momentum: momentum, in [0, 1).
        l2_decay: weight decay added to the gradient before adaptation, at least 0. Keras's own
            `weight_decay`, which is decoupled from the gradient, must stay unset.
        trust_coefficient: factor of the ratio of the norms, positive.
        epsilon: added to the gradient's norm.
        name: name of the optimizer.
        **kwargs: arguments of every Keras optimizer (`clipnorm`, ...).

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        You et al., 2017, arXiv:1708.03888; exclusions as in the PixPro release.

    Example:
        ```python
        import keras
        from pixpro_keras.optimizers import LARS

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(LARS(1.0, l2_decay=1e-5), "mse")
        model.fit(keras.ops.ones((8, 4)), keras.ops.ones((8, 1)), verbose=0)
        ```
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
        checks.positive("trust_coefficient", trust_coefficient)
        super().__init__(learning_rate, sgd_momentum, l2_decay, name=name, **kwargs)
        self.trust_coefficient = trust_coefficient
        self.epsilon = epsilon

    def decayed(self, gradient, variable):
        """The gradient with weight decay, adapted to the variable's norm."""
        if len(variable.shape) < 2:
            return gradient
        gradient = super().decayed(gradient, variable)
        return gradient * self._trust_ratio(variable, gradient)

    def _trust_ratio(self, variable, gradient):
        # Half of the sum of squares is one operation, without a copy of the squares.
        weight_norm = ops.sqrt(2 * tf.nn.l2_loss(variable))
        gradient_norm = ops.sqrt(2 * tf.nn.l2_loss(gradient))
        ratio = self.trust_coefficient * weight_norm / (gradient_norm + self.epsilon)
        return ops.where((weight_norm > 0) & (gradient_norm > 0), ratio, 1.0)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "trust_coefficient": self.trust_coefficient,
            "epsilon": self.epsilon,
        }
