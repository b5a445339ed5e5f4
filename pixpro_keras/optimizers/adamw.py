"""AdamW whose step of a variable is one operation."""

import keras
import tensorflow as tf
from keras import ops

__all__ = ["AdamW"]


@keras.saving.register_keras_serializable("pixpro_keras")
class AdamW(keras.optimizers.AdamW):
    """AdamW as in Keras, in half the time.

    Keras's step of a variable is some ten operations; this one is a single one, apart from the decay.
    Results differ by rounding, and checkpoints fit both.

    Args:
        *args: arguments of `keras.optimizers.AdamW`.
        **kwargs: arguments of `keras.optimizers.AdamW`, without `amsgrad`.

    Raises:
        ValueError: if `amsgrad` is set.

    Reference:
        Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101.

    Example:
        ```python
        import keras
        from pixpro_keras.optimizers import AdamW

        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(AdamW(0.001, weight_decay=0.05), "mse")
        model.fit(keras.ops.ones((8, 4)), keras.ops.ones((8, 1)), verbose=0)
        ```
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.amsgrad:
            raise ValueError("`amsgrad` is not supported. Received: amsgrad=True.")

    def update_step(self, gradient, variable, learning_rate) -> None:
        """One step of one variable; Keras decays the weights before."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = ops.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = (tf.constant(x, dtype) for x in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta_1**step,
            beta2_power=beta_2**step,
            lr=ops.cast(learning_rate, dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.constant(self.epsilon, dtype),
            grad=ops.cast(gradient, dtype),
        )
