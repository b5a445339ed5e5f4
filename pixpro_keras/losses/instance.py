"""Losses between whole images."""

from keras import ops

from pixpro_keras.batch import Tensor
from pixpro_keras.ops import l2_normalize


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of `-cos(prediction_i, target_i)` over the images.

    Args:
        prediction: `(B, C)`.
        target: `(B, C)`; receives no gradient.

    Returns:
        Scalar float32 in [-1, 1].

    Reference:
        Grill et al., 2020, arXiv:2006.07733.
    """
    target = l2_normalize(ops.stop_gradient(target))
    return -ops.mean(ops.sum(l2_normalize(prediction) * target, axis=-1))
