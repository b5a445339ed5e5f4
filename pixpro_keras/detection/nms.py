"""Non-maximum suppression with static shapes."""

import math

import tensorflow as tf
from keras import ops

from pixpro_keras.types import Tensor

# Number of score-sorted boxes of all classes that compete. Above a score of 0.05, softmax leaves
# 1000 proposals some 1,000 to 2,000 boxes.
_MAX_CANDIDATES = 4096
_NEVER = -1e9


def non_max_suppression(
    boxes: Tensor, scores: Tensor, is_valid: Tensor, iou_threshold: float, max_outputs: int
) -> tuple[Tensor, Tensor]:
    """Greedy suppression: by decreasing score, drops boxes that overlap too much with a kept one.

    Args:
        boxes: `(B, N, 4)`.
        scores: `(B, N)`.
        is_valid: `(B, N)` booleans; other boxes are neither kept nor suppress others.
        iou_threshold: IoU above which a box is dropped.
        max_outputs: K, largest number of boxes kept per image.

    Returns:
        Indices of the kept boxes by decreasing score, `(B, K)` int32, and their validity, `(B, K)`
        booleans. K is at most N.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import non_max_suppression

        boxes = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30]]], "float32")
        scores, is_valid = np.array([[0.9, 0.8, 0.7]], "float32"), np.ones((1, 3), bool)
        indices, is_kept = non_max_suppression(boxes, scores, is_valid, 0.5, max_outputs=3)
        print(indices[is_kept])  # 0 and 2
        ```
    """
    max_outputs = min(max_outputs, boxes.shape[1])
    # Invalid boxes are moved far away and get the lowest score: some versions of TensorFlow ignore
    # `score_threshold`.
    boxes = ops.where(is_valid[..., None], boxes, _NEVER)
    scores = ops.where(is_valid, ops.cast(scores, "float32"), _NEVER)
    # It compiles with XLA and equals the greedy algorithm; combined_non_max_suppression does not
    # compile.
    indices, count = tf.image.non_max_suppression_padded(
        boxes, scores, max_outputs, iou_threshold=iou_threshold, pad_to_max_output_size=True
    )
    indices = tf.ensure_shape(indices, (boxes.shape[0], max_outputs))
    is_kept = ops.arange(max_outputs) < ops.expand_dims(count, 1)
    return indices, is_kept & tf.gather(is_valid, indices, batch_dims=1)


def multiclass_non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    score_threshold: float,
    iou_threshold: float,
    max_outputs: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Suppression among the boxes of each class, then the best of all classes.

    Args:
        boxes: `(B, R, C, 4)`. A box for each proposal and class.
        scores: `(B, R, C)`, in [0, 1].
        score_threshold: boxes at or below it are dropped.
        iou_threshold: IoU above which a box is dropped.
        max_outputs: K, largest number of boxes kept per image.

    Returns:
        By decreasing score: boxes `(B, K, 4)`, scores `(B, K)` (0 for padding), classes `(B, K)` int32
        and indices of the boxes' proposals, `(B, K)` int32.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import multiclass_non_max_suppression

        corners = np.random.uniform(0, 50, (1, 6, 2, 2))
        boxes = np.concatenate([corners, corners + 20], axis=-1).astype("float32")
        scores = np.random.uniform(0, 1, (1, 6, 2)).astype("float32")
        outputs = multiclass_non_max_suppression(boxes, scores, 0.05, 0.5, max_outputs=10)
        boxes, scores, classes, proposals = outputs
        ```
    """
    num_proposals, num_classes = scores.shape[1:]
    num_boxes = num_proposals * num_classes
    flat_boxes = ops.reshape(boxes, (-1, num_boxes, 4))
    flat_scores = ops.reshape(scores, (-1, num_boxes))
    top_scores, indices = ops.top_k(flat_scores, min(num_boxes, _MAX_CANDIDATES))
    top_boxes = tf.gather(flat_boxes, indices, batch_dims=1)
    indices = ops.cast(indices, "int64")
    classes = indices % num_classes
    # Moved apart, boxes of different classes do not overlap. Classes are the cells of a square grid: in a
    # row of many of them, coordinates would be so large that float32 rounds them to a quarter pixel.
    low, high = (bound(top_boxes, axis=(1, 2), keepdims=True) for bound in (ops.min, ops.max))
    distance = high - low + 1
    side = math.ceil(num_classes**0.5)
    cell = ops.cast(ops.stack([classes % side, classes // side], axis=-1), "float32")
    moved_boxes = top_boxes + ops.tile(cell, (1, 1, 2)) * distance
    kept, is_kept = non_max_suppression(
        moved_boxes, top_scores, top_scores > score_threshold, iou_threshold, max_outputs
    )

    def gather(values: Tensor) -> Tensor:
        return tf.gather(values, kept, batch_dims=1)

    kept_scores = ops.where(is_kept, gather(top_scores), 0.0)
    classes, proposals = (
        ops.cast(x, "int32") for x in (gather(classes), gather(indices) // num_classes)
    )
    return gather(top_boxes), kept_scores, classes, proposals
