"""Pixel-level losses of PixPro and PixContrast."""

from keras import ops

from pixpro_keras import checks
from pixpro_keras.batch import Tensor
from pixpro_keras.ops import l2_normalize


def pixel_consistency(prediction: Tensor, target: Tensor, positives: Tensor) -> Tensor:
    """Pixel-to-propagation consistency, one direction.

    Averages `-cos(y_i, x'_j)` over the positive pixel pairs of an image, then over the batch.

    Args:
        prediction: `(B, N, C)`. Propagated pixels `y` of one view.
        target: `(B, N, C)`. Target-encoder pixels `x'` of the other view; receives no gradient.
        positives: `(B, N, N)` of 0 and 1. Entry `[b, i, j]` is 1 when pixel `i` of `prediction`
            and pixel `j` of `target` show the same place.

    Returns:
        Scalar float32 in [-1, 1]. An image whose views do not overlap adds 0.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, equation 4.
    """
    matched = _matched_cosines(prediction, ops.stop_gradient(target), positives)
    pairs = ops.maximum(ops.sum(positives, axis=(1, 2)), 1.0)
    return -ops.mean(matched / pairs)


def pixel_contrast(
    query: Tensor, key: Tensor, positives: Tensor, temperature: float = 0.3
) -> Tensor:
    """Pixel-level InfoNCE with several positives per pixel, one direction.

    `L(i) = -log(sum_{j in pos(i)} exp(cos(x_i, x'_j) / tau) / sum_k exp(cos(x_i, x'_k) / tau))`,
    averaged over the pixels of an image that have a positive, then over the batch. Negatives are
    the other pixels of the same image's second view.

    Args:
        query: `(B, N, C)`. Online pixels of one view.
        key: `(B, N, C)`. Target-encoder pixels of the other view; receives no gradient.
        positives: `(B, N, N)` of 0 and 1, queries in rows.
        temperature: tau, positive.

    Returns:
        Scalar float32, at least 0. An image whose views do not overlap adds 0.

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, equation 2.
    """
    checks.positive("temperature", temperature)
    query = l2_normalize(query)
    key = l2_normalize(ops.stop_gradient(key))
    logits = ops.einsum("bic,bjc->bij", query, key) / temperature
    # The finite stand-in for log(0) keeps the gradient of a row without positives at 0, not NaN.
    matched = ops.logsumexp(ops.where(positives > 0, logits, -1e9), axis=2)
    per_pixel = ops.logsumexp(logits, axis=2) - matched  # (B, N)
    has_positive = ops.max(positives, axis=2)
    per_pixel = ops.where(has_positive > 0, per_pixel, 0.0)
    count = ops.maximum(ops.sum(has_positive, axis=1), 1.0)
    return ops.mean(ops.sum(per_pixel, axis=1) / count)


def positive_cosine(features1: Tensor, features2: Tensor, positives: Tensor) -> Tensor:
    """Mean cosine of the positive pairs of a batch, for watching a run.

    Unlike in the losses, images without a positive pair do not count.

    Args:
        features1: `(B, N, C)` of one view.
        features2: `(B, N, C)` of the other view.
        positives: `(B, N, N)` of 0 and 1.

    Returns:
        Scalar float32 in [-1, 1]; 0 when the batch has no positive pair.
    """
    matched = _matched_cosines(features1, features2, positives)
    return ops.sum(matched) / ops.maximum(ops.sum(positives), 1.0)


def _matched_cosines(features1: Tensor, features2: Tensor, positives: Tensor) -> Tensor:
    """Sum of the cosines of each image's positive pairs: `(B,)`."""
    # Summing the partners of a pixel first needs no N x N matrix of cosines, nor its gradient.
    partners = ops.matmul(positives, l2_normalize(features2))  # (B, N, C)
    return ops.sum(l2_normalize(features1) * partners, axis=(1, 2))
