"""Which true box an anchor or a proposal stands for."""

from keras import ops

from pixpro_keras.types import Tensor

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1


def match(
    iou: Tensor, is_real: Tensor, low: float, high: float, with_low_quality: bool = False
) -> tuple[Tensor, Tensor]:
    """Finds the best true box for each candidate.

    A candidate is positive from an IoU of `high` on, negative below `low`, and ignored between. With
    low-quality matches, the candidates that come closest to a true box are positive too, so that
    each true box has at least one.

    Args:
        iou: `(B, M, N)`. Of M true boxes with N candidates.
        is_real: `(B, M)` booleans; padding is no box.
        low: IoU below which a candidate is negative.
        high: IoU from which on a candidate is positive, at least `low`.
        with_low_quality: whether to make sure that each true box has a candidate.

    Returns:
        The best true box's number, `(B, N)` int32, and `POSITIVE`, `NEGATIVE` or `IGNORED`, `(B, N)`
        int32. Without true boxes all candidates are negative.
    """
    iou = ops.where(is_real[..., None], iou, -1.0)
    best = ops.max(iou, axis=1)
    labels = ops.where(best < low, NEGATIVE, ops.where(best < high, IGNORED, POSITIVE))
    if with_low_quality:
        closest = ops.max(iou, axis=2, keepdims=True)
        # The comparison is not exact: compiled code may compute the same IoU twice and round it
        # differently. A box that no candidate touches makes none positive.
        is_closest = (iou >= closest - 1e-6) & (closest > 0)
        labels = ops.where(ops.any(is_closest, axis=1), POSITIVE, labels)
    return ops.cast(ops.argmax(iou, axis=1), "int32"), ops.cast(labels, "int32")
