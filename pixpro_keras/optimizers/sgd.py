"""SGD with momentum and weight decay as PyTorch has it."""

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.utils import checks

__all__ = ["SGD"]


@keras.saving.register_keras_serializable("pixpro_keras")
class SGD(keras.optimizers.Optimizer):
    """SGD whose momentum accumulates gradients, not steps, with weight decay in the gradient.

        m <- sgd_momentum * m + g + l2_decay * w
        w <- w - learning_rate * m

    Keras's own SGD multiplies by the learning rate before accumulating, which differs while the rate
    changes, and decouples its weight decay from the gradient.

    Args:
        learning_rate: a number or a `keras.optimizers.schedules.LearningRateSchedule`.
        sgd_momentum: momentum, in [0, 1).
        l2_decay: weight decay added to the gradient of every variable, at least 0. Keras's own
            `weight_decay` must stay unset.
        decay_norms: whether scales and offsets of batch norm decay too; in detectron2 they do not.
        name: name of the optimizer.
        **kwargs: arguments of every Keras optimizer (`clipnorm`, ...).

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        ```python
        import keras
        from pixpro_keras.optimizers import SGD

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(SGD(0.1, sgd_momentum=0.9, l2_decay=1e-4), "mse")
        model.fit(keras.ops.ones((8, 4)), keras.ops.ones((8, 1)), verbose=0)
        ```
    """

    def __init__(
        self,
        learning_rate=0.03,
        sgd_momentum: float = 0.9,
        l2_decay: float = 1e-4,
        decay_norms: bool = True,
        name: str = "sgd",
        **kwargs,
    ):
        if not 0 <= sgd_momentum < 1:
            raise ValueError(
                f"`sgd_momentum` must be in [0, 1). Received: sgd_momentum={sgd_momentum}."
            )
        checks.at_least("l2_decay", l2_decay, 0)
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.sgd_momentum = sgd_momentum
        self.l2_decay = l2_decay
        self.decay_norms = decay_norms

    def build(self, variables: list) -> None:
        """Creates a momentum slot for each variable."""
        if self.built:
            return
        super().build(variables)
        self.momentums = [
            self.add_variable_from_reference(reference_variable=variable, name="momentum")
            for variable in variables
        ]
        self._is_norm = [variable.name in ("gamma", "beta") for variable in variables]

    def update_step(self, gradient, variable, learning_rate) -> None:
        """One step of one variable."""
        slot = self.momentums[self._get_variable_index(variable)].value
        # Both lines of the formula in one pass over the weights.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=slot.handle,
            lr=ops.cast(learning_rate, variable.dtype),
            grad=self.decayed(ops.cast(gradient, variable.dtype), variable),
            momentum=tf.constant(self.sgd_momentum, variable.dtype),
        )

    def decayed(self, gradient, variable):
        """The gradient with weight decay."""
        is_spared = not self.decay_norms and self._is_norm[self._get_variable_index(variable)]
        if is_spared or not self.l2_decay:
            return gradient
        return gradient + self.l2_decay * variable

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "sgd_momentum": self.sgd_momentum,
            "l2_decay": self.l2_decay,
            "decay_norms": self.decay_norms,
        }
