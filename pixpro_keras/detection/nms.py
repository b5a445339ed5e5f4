"""Non-maximum suppression with static shapes."""

import tensorflow as tf
from keras import ops

from pixpro_keras.types import Tensor

# Of the score-sorted boxes of all classes, how many compete. Above a score of 0.05, softmax leaves
# 1000 proposals some 1,000 to 2,000 boxes.
_MAX_COMPETITORS = 4096
_NEVER = -1e9


def suppress(
    boxes: Tensor, scores: Tensor, is_real: Tensor, iou_threshold: float, num_kept: int
) -> tuple[Tensor, Tensor]:
    """Greedy suppression: by falling score, drops boxes that overlap with a kept one too much.

    Args:
        boxes: `(B, N, 4)`.
        scores: `(B, N)`.
        is_real: `(B, N)` booleans; other boxes neither count nor suppress.
        iou_threshold: IoU above which a box is dropped.
        num_kept: K, the most boxes kept per image.

    Returns:
        Numbers of the kept boxes by falling score, `(B, K)` int32, and whether there is one, `(B, K)`
        booleans. K is at most N.
    """
    num_kept = min(num_kept, boxes.shape[1])
    # Boxes that are not real are far off and last: score_threshold does not hold in every version.
    boxes = ops.where(is_real[..., None], boxes, _NEVER)
    scores = ops.where(is_real, ops.cast(scores, "float32"), _NEVER)
    # It compiles with XLA and equals the greedy algorithm; combined_non_max_suppression does not
    # compile.
    indices, count = tf.image.non_max_suppression_padded(
        boxes, scores, num_kept, iou_threshold=iou_threshold, pad_to_max_output_size=True
    )
    indices = tf.ensure_shape(indices, (boxes.shape[0], num_kept))
    is_kept = ops.arange(num_kept) < ops.expand_dims(count, 1)
    return indices, is_kept & tf.gather(is_real, indices, batch_dims=1)


def suppress_per_class(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    num_kept: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Suppression among the boxes of each class, then the best of all classes.

    Args:
        boxes: `(B, R, C, 4)`. A box for each proposal and class.
        scores: `(B, R, C)`, in [0, 1].
        score_threshold: boxes at or below it are dropped.
        iou_threshold: IoU above which a box is dropped.
        num_kept: K, the most boxes kept per image.

    Returns:
        By falling score: boxes `(B, K, 4)`, scores `(B, K)` (0 where there is none), classes `(B, K)`
        int32 and the proposal each box came from, `(B, K)` int32.
    """
    num_proposals, num_classes = scores.shape[1:]
    num_boxes = num_proposals * num_classes
    flat_boxes = ops.reshape(boxes, (-1, num_boxes, 4))
    flat_scores = ops.reshape(scores, (-1, num_boxes))
    top_scores, places = ops.top_k(flat_scores, min(num_boxes, _MAX_COMPETITORS))
    top_boxes = tf.gather(flat_boxes, places, batch_dims=1)
    classes = ops.cast(places % num_classes, "int32")
    # Moved far apart, boxes of different classes do not overlap.
    distance = ops.max(ops.abs(top_boxes), axis=(1, 2), keepdims=True) * 2 + 1
    apart = top_boxes + ops.cast(classes, "float32")[..., None] * distance
    kept, is_kept = suppress(
        apart, top_scores, top_scores > score_threshold, iou_threshold, num_kept
    )

    def pick(values: Tensor) -> Tensor:
        return tf.gather(values, kept, batch_dims=1)

    chosen = ops.where(is_kept, pick(top_scores), 0.0)
    proposals = ops.cast(pick(places) // num_classes, "int32")
    return pick(top_boxes), chosen, pick(classes), proposals
