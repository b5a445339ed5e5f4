"""Pixel-level losses of PixPro and PixContrast."""

from keras import ops

from pixpro_keras.ops import l2_normalize
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks


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
    matched = matched_cosines(prediction, target, positives)
    return -mean_over_images(matched, ops.sum(positives, axis=2))


def pixel_contrast(
    query: Tensor, key: Tensor, positives: Tensor, temperature: float = 0.3
) -> Tensor:
    """Pixel-level InfoNCE with several positives per pixel, one direction.

    The mean of `contrast_of_pixels` over the pixels of an image that have a positive, then over the
    batch. Negatives are the other pixels of the same image's second view.

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
    losses = contrast_of_pixels(query, key, positives, temperature)
    return mean_over_images(losses, ops.max(positives, axis=2))


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
    matched = matched_cosines(features1, features2, positives)
    return ops.sum(matched) / ops.maximum(ops.sum(positives), 1.0)


def matched_cosines(prediction: Tensor, target: Tensor, positives: Tensor) -> Tensor:
    """Of some pixels of one view, the sum of the cosines with their positives.

    Args:
        prediction: `(B, R, C)`. R of the pixels of one view.
        target: `(B, N, C)`. All pixels of the other view; receives no gradient.
        positives: `(B, R, N)` of 0 and 1.

    Returns:
        `(B, R)` float32.
    """
    # Summing the partners of a pixel first needs no matrix of cosines, nor its gradient.
    partners = ops.matmul(positives, l2_normalize(ops.stop_gradient(target)))  # (B, R, C)
    return ops.sum(l2_normalize(prediction) * partners, axis=2)


def contrast_of_pixels(query: Tensor, key: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """InfoNCE of some pixels of one view.

    `L(i) = -log(sum_{j in pos(i)} exp(cos(x_i, x'_j) / tau) / sum_k exp(cos(x_i, x'_k) / tau))`

    Args:
        query: `(B, R, C)`. R of the online pixels of one view.
        key: `(B, N, C)`. All target-encoder pixels of the other view; receives no gradient.
        positives: `(B, R, N)` of 0 and 1.
        temperature: tau, positive.

    Returns:
        `(B, R)` float32, at least 0; 0 for pixels without a positive.

    Raises:
        ValueError: if `temperature` is not positive.
    """
    checks.positive("temperature", temperature)
    query = l2_normalize(query)
    key = l2_normalize(ops.stop_gradient(key))
    logits = ops.einsum("bic,bjc->bij", query, key) / temperature
    # The finite stand-in for log(0) keeps the gradient of a row without positives at 0, not NaN.
    matched = ops.logsumexp(ops.where(positives > 0, logits, -1e9), axis=2)
    losses = ops.logsumexp(logits, axis=2) - matched
    return ops.where(ops.max(positives, axis=2) > 0, losses, 0.0)


def mean_over_images(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of each image's own mean.

    Args:
        values: `(B, R)`. Sums, of each pixel.
        counts: `(B, R)`. What each of them is a sum of.

    Returns:
        Scalar: an image without anything to count adds 0.
    """
    return ops.mean(ops.sum(values, axis=1) / ops.maximum(ops.sum(counts, axis=1), 1.0))
