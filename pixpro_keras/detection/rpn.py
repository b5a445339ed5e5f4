"""The region proposal network (RPN): boxes that may hold an object."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.detection.box_pipeline import BOXES, CLASSES, SEED, SIZE
from pixpro_keras.detection.boxes import (
    box_area,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    pairwise_iou,
)
from pixpro_keras.detection.matching import match_boxes
from pixpro_keras.detection.nms import non_max_suppression
from pixpro_keras.detection.sampling import image_noise, subsample_labels
from pixpro_keras.types import Batch, Tensor

LOW_IOU_THRESHOLD, HIGH_IOU_THRESHOLD = 0.3, 0.7
NUM_SAMPLES, POSITIVE_FRACTION = 256, 0.5
NMS_IOU_THRESHOLD = 0.7
_BOX_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
_NEVER = -1e9  # a logit


@keras.saving.register_keras_serializable("pixpro_keras")
class RPN(keras.layers.Layer):
    """A 3x3 convolution, then for each anchor of a cell an objectness logit and a box.

    The same weights serve all maps.

    Args:
        num_anchors: A, anchors of a cell.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import RPN

        rpn = RPN(num_anchors=3)
        rpn.build((None, None, None, 8))
        logits, deltas = rpn(np.zeros((2, 4, 5, 8), "float32"))
        print(logits.shape, deltas.shape)  # (2, 60) (2, 60, 4)
        ```
    """

    def __init__(self, num_anchors: int, **kwargs):
        super().__init__(**kwargs)
        self.num_anchors = num_anchors

    def build(self, input_shape: tuple) -> None:
        """Creates the convolutions for maps of this shape, `(B, H, W, C)`."""
        channels = input_shape[-1]

        def convolution(filters: int, size: int, name: str, activation=None):
            layer = keras.layers.Conv2D(
                filters,
                size,
                padding="same",
                activation=activation,
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                name=name,
                dtype=self.dtype_policy,
            )
            layer.build((None, None, None, channels))
            return layer

        self.hidden = convolution(channels, 3, "hidden", "relu")
        self.objectness = convolution(self.num_anchors, 1, "objectness")
        self.shift = convolution(4 * self.num_anchors, 1, "shift")
        self.built = True

    def call(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and deltas of a map's anchors, cell by cell.

        Args:
            inputs: `(B, H, W, C)`.

        Returns:
            `(B, H * W * A)` and `(B, H * W * A, 4)`, both float32.
        """
        hidden = self.hidden(inputs)
        count = inputs.shape[1] * inputs.shape[2] * self.num_anchors
        logits = ops.reshape(self.objectness(hidden), (-1, count))
        deltas = ops.reshape(self.shift(hidden), (-1, count, 4))
        return ops.cast(logits, "float32"), ops.cast(deltas, "float32")

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {"num_anchors": self.num_anchors}


def rpn_losses(logits: Tensor, deltas: Tensor, anchors: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Loss terms of sampled anchors, all maps together.

    Binary cross-entropy, and the L1 distance of the positives' deltas, both summed and divided by
    `256 * B`, however many anchors are valid. Anchors whose center is in an image's padding do not count.

    Args:
        logits: `(B, N)`.
        deltas: `(B, N, 4)`.
        anchors: `(N, 4)` in pixels.
        batch: batch of `box_pipeline`.

    Returns:
        Scalars `rpn_objectness` and `rpn_box`, at least 0.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.detection import grid_anchors, rpn_losses

        batch = {
            "boxes": np.array([[[10, 10, 40, 40]]], "float32"),
            "classes": np.array([[1]]),
            "size": np.array([[48, 64]], "float32"),
            "seed": tf.constant([[0, 1]]),
        }
        anchors = grid_anchors(height=3, width=4, stride=16, sizes=(32,))
        logits, deltas = np.zeros((1, 36), "float32"), np.zeros((1, 36, 4), "float32")
        print(rpn_losses(logits, deltas, anchors, batch))
        ```
    """
    boxes = batch[BOXES]
    matches, labels = match_boxes(
        pairwise_iou(boxes, anchors),
        batch[CLASSES] >= 0,
        LOW_IOU_THRESHOLD,
        HIGH_IOU_THRESHOLD,
        allow_low_quality=True,
        is_candidate=_are_centered_inside(anchors, batch[SIZE]),
    )
    noise = image_noise(batch[SEED], anchors.shape[0], offset=0)
    indices, is_positive, is_valid = subsample_labels(labels, noise, NUM_SAMPLES, POSITIVE_FRACTION)
    matched = tf.gather(matches, indices, batch_dims=1)
    targets = encode_boxes(
        tf.gather(boxes, matched, batch_dims=1), tf.gather(anchors, indices), _BOX_WEIGHTS
    )
    is_positive, is_valid = (ops.cast(x, "float32") for x in (is_positive, is_valid))
    objectness = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=is_positive, logits=tf.gather(logits, indices, batch_dims=1)
    )
    distance = ops.sum(ops.abs(tf.gather(deltas, indices, batch_dims=1) - targets), axis=-1)
    divisor = NUM_SAMPLES * boxes.shape[0]
    return {
        "rpn_objectness": ops.sum(objectness * is_valid) / divisor,
        "rpn_box": ops.sum(distance * is_positive) / divisor,
    }


def generate_proposals(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    sizes: Tensor,
    pre_nms_top_k: int,
    post_nms_top_k: int,
) -> tuple[Tensor, Tensor]:
    """Proposes the most likely boxes of all maps, except those of anchors in the padding. No gradient.

    Args:
        logits: logits of each map, `(B, N)`.
        deltas: deltas of each map, `(B, N, 4)`.
        anchors: anchors of each map, `(N, 4)`.
        sizes: `(B, 2)`. Height and width of each image in pixels.
        pre_nms_top_k: largest number of boxes per map before suppression.
        post_nms_top_k: R, largest number of boxes per image after it.

    Returns:
        Boxes by decreasing score, `(B, R, 4)`, and their validity, `(B, R)` booleans. R is smaller
        where there are fewer anchors.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import generate_proposals, grid_anchors

        anchors = grid_anchors(height=3, width=4, stride=16, sizes=(32,))
        logits = np.random.normal(size=(1, 36)).astype("float32")
        deltas = np.zeros((1, 36, 4), "float32")
        sizes = np.array([[48.0, 64.0]], "float32")
        boxes, is_valid = generate_proposals([logits], [deltas], [anchors], sizes, 20, 5)
        print(boxes.shape)  # (1, 5, 4)
        ```
    """
    all_boxes, all_scores, all_kept = [], [], []
    for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
        is_inside = _are_centered_inside(level_anchors, sizes)
        scores, indices = ops.top_k(
            ops.where(is_inside, ops.stop_gradient(level_logits), _NEVER),
            min(pre_nms_top_k, level_logits.shape[1]),
        )
        top_deltas = tf.gather(ops.stop_gradient(level_deltas), indices, batch_dims=1)
        boxes = decode_boxes(top_deltas, tf.gather(level_anchors, indices), _BOX_WEIGHTS)
        boxes = clip_boxes(boxes, sizes)
        kept, is_kept = non_max_suppression(
            boxes,
            scores,
            (box_area(boxes) > 0) & (scores > _NEVER),
            NMS_IOU_THRESHOLD,
            post_nms_top_k,
        )
        all_boxes.append(tf.gather(boxes, kept, batch_dims=1))
        all_scores.append(ops.where(is_kept, tf.gather(scores, kept, batch_dims=1), _NEVER))
        all_kept.append(is_kept)
    scores = ops.concatenate(all_scores, axis=1)
    _, order = ops.top_k(scores, min(post_nms_top_k, scores.shape[1]))
    boxes = tf.gather(ops.concatenate(all_boxes, axis=1), order, batch_dims=1)
    return boxes, tf.gather(ops.concatenate(all_kept, axis=1), order, batch_dims=1)


def _are_centered_inside(anchors: Tensor, sizes: Tensor) -> Tensor:
    """Tells which anchors `(N, 4)` have their center in each image of size `(B, 2)`: `(B, N)` booleans.

    Centers and sizes are integers up to rounding, so the limit is half a pixel below the size.
    """
    centers = 0.5 * (anchors[:, :2] + anchors[:, 2:])
    limits = sizes[:, None, ::-1] - 0.5
    return ops.all(centers < limits, axis=-1)
