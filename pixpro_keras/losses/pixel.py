"""Pixel-level losses of PixPro and PixContrast.

The positive pairs are a mask `(B, N, M)`, from `geometry.positive_pairs`, or for large maps its rows,
from `geometry.lazy_positive_pairs`. The maps of the two views may differ in size, N and M pixels. In
either form the memory for pairs of pixels grows linearly with N, by `ops.blockwise`.
"""

from keras import ops

from pixpro_keras.ops import LazyRows, blockwise, l2_normalize
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["pixel_consistency", "pixel_contrast", "positive_pair_metrics"]


def pixel_consistency(prediction: Tensor, target: Tensor, positives: Tensor | LazyRows) -> Tensor:
    """Pixel-to-propagation consistency, one direction.

    Averages `-cos(y_i, x'_j)` over the positive pixel pairs of an image, then over the batch.

    Args:
        prediction: `(B, N, C)`. Propagated pixels `y` of one view.
        target: `(B, M, C)`. Target-encoder pixels `x'` of the other view; receives no gradient.
        positives: `(B, N, M)` of 0 and 1, of any dtype. Entry `[b, i, j]` is 1 when pixel `i` of `prediction`
            and pixel `j` of `target` show the same place.

    Returns:
        Scalar float32 in [-1, 1]. An image whose views do not overlap adds 0.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, equation 5.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import pixel_consistency

        prediction, target = (keras.random.normal((2, 49, 256)) for _ in range(2))
        positives = keras.ops.eye(49)[None] * keras.ops.ones((2, 1, 1))
        loss = pixel_consistency(prediction, target, positives)
        ```
    """
    cosines, counts = _positive_cosines(prediction, target, positives)
    return -_mean_over_images(cosines, counts)


def pixel_contrast(
    query: Tensor,
    key: Tensor,
    positives: Tensor | LazyRows,
    temperature: float = 0.3,
    candidates: Tensor | None = None,
    image_ids: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Pixel-level InfoNCE with several positives per pixel, one direction.

    `L(i) = -log(sum_{j in pos(i)} exp(cos(x_i, x'_j) / tau) / sum_k exp(cos(x_i, x'_k) / tau))`,
    averaged over the pixels i of an image that have a positive, then over the batch. k runs over the
    pixels of the same image's second view, as in the paper, or over `candidates`.

    Args:
        query: `(B, N, C)`. Online pixels `x` of one view.
        key: `(B, M, C)`. Target-encoder pixels `x'` of the other view; receives no gradient.
        positives: `(B, N, M)` of 0 and 1, of any dtype; queries in rows.
        temperature: tau, positive.
        candidates: `(K, C)`. Pixels over which k runs for every query, for instance those of the
            global batch; all pixels of `key` must be among them. Receives no gradient.
        image_ids: `(B,)` and `(K,)` integers. Images of the queries and of the candidates: k then runs
            over the positives and the candidates of other images, so that a pixel is not pushed away from
            the rest of its own image. `key` need not be among the candidates.

    Returns:
        Scalar float32, at least 0. An image whose views do not overlap adds 0.

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, equation 2.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import pixel_contrast

        query, key = (keras.random.normal((2, 49, 256)) for _ in range(2))
        positives = keras.ops.eye(49)[None] * keras.ops.ones((2, 1, 1))
        loss = pixel_contrast(query, key, positives, temperature=0.3)
        ```
    """
    checks.positive("temperature", temperature)

    def of_rows(query: Tensor, positives: Tensor, *others: Tensor) -> Tensor:
        *totals, key = others
        key = ops.stop_gradient(key)
        logits = ops.einsum("bic,bjc->bij", l2_normalize(query), key) / temperature
        # A finite value instead of log(0) makes the gradient of a row without positives 0, not NaN.
        matched = ops.logsumexp(ops.where(positives > 0, logits, -1e9), axis=2)
        total = totals[0] if totals else ops.logsumexp(logits, axis=2)
        if image_ids is not None:
            total = ops.logaddexp(total, matched)
        has_positive = ops.max(positives, axis=2)
        losses = ops.where(has_positive > 0, total - matched, 0.0)
        return ops.stack([losses, has_positive], axis=2)

    totals = [] if candidates is None else [_log_totals(query, candidates, temperature, image_ids)]
    rows = blockwise(of_rows, [query, _as_floats(positives), *totals], [l2_normalize(key)])
    losses, counts = ops.unstack(rows, axis=2)
    return _mean_over_images(losses, counts)


def positive_pair_metrics(
    prediction: Tensor, target: Tensor, positives: Tensor | LazyRows
) -> dict[str, Tensor]:
    """Number and agreement of the positive pairs of a batch, for monitoring.

    Unlike in the losses, images without a positive pair do not count.

    Args:
        prediction: `(B, N, C)` of one view.
        target: `(B, M, C)` of the other view; receives no gradient.
        positives: `(B, N, M)` of 0 and 1.

    Returns:
        `positive_share`: scalar float32 in [0, 1], share of the pairs that are positive.
        `positive_cosine`: scalar float32 in [-1, 1], their mean cosine; 0 without a positive pair.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import positive_pair_metrics

        pixels = keras.random.normal((2, 49, 256))
        positives = keras.ops.eye(49)[None] * keras.ops.ones((2, 1, 1))
        print(positive_pair_metrics(pixels, pixels, positives))  # 1 / 49 and 1
        ```
    """
    cosines, counts = _positive_cosines(prediction, target, positives)
    return {
        "positive_share": ops.mean(counts) / target.shape[1],
        "positive_cosine": ops.sum(cosines) / ops.maximum(ops.sum(counts), 1.0),
    }


def _positive_cosines(
    prediction: Tensor, target: Tensor, positives: Tensor | LazyRows
) -> tuple[Tensor, Tensor]:
    """Sum of cosines with the positives and number of positives of each pixel, `(B, N)` each."""

    def of_rows(prediction: Tensor, positives: Tensor, target: Tensor) -> Tensor:
        # Summing the positives of a pixel first avoids the matrix of cosines and its gradient.
        partners = ops.matmul(positives, ops.stop_gradient(target))  # (B, R, C)
        cosines = ops.sum(l2_normalize(prediction) * partners, axis=2)
        return ops.stack([cosines, ops.sum(positives, axis=2)], axis=2)

    rows = blockwise(of_rows, [prediction, _as_floats(positives)], [l2_normalize(target)])
    return ops.unstack(rows, axis=2)


def _as_floats(positives: Tensor | LazyRows) -> Tensor | LazyRows:
    """The mask in float32, whatever its dtype: masks of NumPy are often bool or float64."""
    return positives if isinstance(positives, LazyRows) else ops.cast(positives, "float32")


def _log_totals(
    query: Tensor,
    candidates: Tensor,
    temperature: float,
    image_ids: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """`log(sum_k exp(cos(x_i, c_k) / tau))` of each pixel, `(B, N)`; k as in `pixel_contrast`."""
    batch, num_pixels, channels = query.shape
    query = l2_normalize(query)
    keys = l2_normalize(ops.stop_gradient(candidates))
    ids = image_ids or (ops.zeros(batch), ops.ones(keys.shape[0]))

    def of_rows(query: Tensor, query_ids: Tensor, keys: Tensor, key_ids: Tensor) -> Tensor:
        logits = ops.einsum("bic,kc->bik", query, keys) / temperature
        if image_ids is not None:
            logits = ops.where(query_ids[..., None] == key_ids, -1e9, logits)
        totals = ops.logsumexp(logits, axis=2, keepdims=True)
        mean_keys = ops.einsum("bik,kc->bic", ops.exp(logits - totals), keys)
        return ops.concatenate([totals, mean_keys], axis=2)

    # Blocks of pixels over all images, since there are many candidates.
    pixels = ops.reshape(ops.stop_gradient(query), (1, -1, channels))
    pixel_ids = ops.reshape(ops.repeat(ids[0], num_pixels), (1, -1))
    rows = ops.reshape(
        blockwise(of_rows, [pixels, pixel_ids], [keys, ids[1]]), (-1, num_pixels, 1 + channels)
    )
    totals, mean_keys = rows[..., 0], rows[..., 1:]  # Of inputs that receive no gradient.
    # The gradient of a total is the mean of the keys by their softmax, over tau. Taken along with the
    # total, it spares the backward pass another comparison with all candidates.
    slope = ops.sum(query * mean_keys, axis=2) / temperature
    return totals + (slope - ops.stop_gradient(slope))


def _mean_over_images(values: Tensor, counts: Tensor) -> Tensor:
    """Mean over the batch of `sum(values) / sum(counts)` of each image, both `(B, N)`."""
    return ops.mean(ops.sum(values, axis=1) / ops.maximum(ops.sum(counts, axis=1), 1.0))
