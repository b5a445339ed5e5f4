"""Normalization of inputs that computes with its weights, not with copies of them."""

import keras

from pixpro_keras.types import Tensor

__all__ = ["Normalization"]


@keras.saving.register_keras_serializable("pixpro_keras")
class Normalization(keras.layers.Normalization):
    """`(x - mean) / sqrt(variance)` per channel, as Keras's layer of this name.

    Keras's layer computes with copies of its weights, which it makes when a file is read: weights that are
    restored from a checkpoint or copied from another network would have no effect. This layer
    computes with the weights. It also has Keras's name, under which weights files store it.

    Args:
        **kwargs: arguments of `keras.layers.Normalization`.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.layers import Normalization

        layer = Normalization()
        layer.build((None, 4, 4, 3))
        layer.set_weights([np.ones(3), np.full(3, 4.0), np.array(0)])
        assert float(layer(np.full((1, 4, 4, 3), 5.0))[0, 0, 0, 0]) == 2.0
        ```
    """

    def call(self, inputs: Tensor) -> Tensor:
        """`(B, ..., C)` to the same shape."""
        self.finalize_state()  # Copies the weights, unless mean and variance are arguments.
        return super().call(inputs)
