"""Small tensor functions that losses, layers and methods share."""

from keras import ops

from pixpro_keras.batch import Tensor


def l2_normalize(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """Scales vectors along the last axis to unit length, in float32.

    A vector shorter than `epsilon` is returned as it is, with the gradient of the identity:
    `keras.ops.normalize` has a gradient of 1e12 there, which is NaN in mixed_float16.

    Args:
        x: `(..., C)`.
        epsilon: length below which a vector counts as zero.

    Returns:
        `(..., C)` float32.
    """
    x = ops.cast(x, "float32")
    squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.where(squared > epsilon**2, squared, 1.0))


def to_pixels(feature_map: Tensor) -> Tensor:
    """`(B, h, w, C)` to `(B, h * w, C)`, pixels in row-major order."""
    height, width, channels = feature_map.shape[1:]
    return ops.reshape(feature_map, (-1, height * width, channels))
