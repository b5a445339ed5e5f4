"""Matching of anchors and proposals with ground-truth boxes."""

from keras import ops

from pixpro_keras.ops import argmax
from pixpro_keras.types import Tensor

# Labels of candidates. The last are between the two thresholds, or padding: no loss counts them.
POSITIVE, NEGATIVE, NEITHER = 1, 0, -1


def match_boxes(
    iou: Tensor,
    is_valid: Tensor,
    low_threshold: float,
    high_threshold: float,
    allow_low_quality: bool = False,
    is_candidate: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Finds the best ground-truth box for each candidate.

    A candidate is positive from an IoU of `high_threshold` on, negative below `low_threshold`, and
    neither between them. With low-quality matches, the candidates that come closest to a ground-truth
    box, all with exactly the same float32 IoU, are positive too, so that each of these boxes has at least
    one.

    Args:
        iou: `(B, M, N)`. IoU of M ground-truth boxes with N candidates.
        is_valid: `(B, M)` booleans; False for padding.
        low_threshold: IoU below which a candidate is negative.
        high_threshold: IoU at or above which a candidate is positive; at least `low_threshold`.
        allow_low_quality: whether each ground-truth box gets a candidate.
        is_candidate: `(B, N)` booleans; False for padding, which is neither positive nor negative.
            None: all are candidates.

    Returns:
        Index of the best ground-truth box, `(B, N)` int64, and `POSITIVE`, `NEGATIVE` or `NEITHER`,
        `(B, N)` int64. Without ground-truth boxes all candidates are negative.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import match_boxes

        iou = np.array([[[0.8, 0.5, 0.1]]], "float32")
        matches, labels = match_boxes(iou, np.array([[True]]), 0.3, 0.7)
        print(labels)  # positive, neither, negative
        ```
    """
    counts = is_valid[..., None]
    if is_candidate is not None:
        counts = counts & is_candidate[..., None, :]
    iou = ops.where(counts, iou, -1.0)
    best = ops.max(iou, axis=1)
    labels = ops.where(
        best < low_threshold, NEGATIVE, ops.where(best < high_threshold, NEITHER, POSITIVE)
    )
    if allow_low_quality:
        closest = ops.max(iou, axis=2, keepdims=True)
        first = argmax(iou, axis=2)[..., None]
        # All equally close candidates, and always the first of them, since compiled code may compute an
        # IoU twice with different rounding. A box without overlap makes no candidate positive.
        is_closest = (iou == closest) | (ops.arange(iou.shape[2], dtype="int64") == first)
        is_closest = is_closest & (closest > 0)
        labels = ops.where(ops.any(is_closest, axis=1), POSITIVE, labels)
    if is_candidate is not None:
        labels = ops.where(is_candidate, labels, NEITHER)
    return argmax(iou, axis=1), ops.cast(labels, "int64")
