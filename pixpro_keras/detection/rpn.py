"""The region proposal network: where objects may be."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.detection import boxes as box_math
from pixpro_keras.detection import nms
from pixpro_keras.detection.box_pipeline import BOXES, CLASSES, SEED
from pixpro_keras.detection.matching import match
from pixpro_keras.detection.sampling import image_noise, sample
from pixpro_keras.types import Batch, Tensor

LOW_IOU, HIGH_IOU = 0.3, 0.7
NUM_SAMPLES, POSITIVE_SHARE = 256, 0.5
NMS_IOU = 0.7
_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


class RPN(keras.layers.Layer):
    """A 3x3 convolution, and for each anchor of a cell whether it is an object, and its shift.

    The same weights serve all maps.

    Args:
        anchors_per_cell: anchors of a cell, A.
    """

    def __init__(self, anchors_per_cell: int, **kwargs):
        super().__init__(**kwargs)
        self.anchors_per_cell = anchors_per_cell

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
        self.objectness = convolution(self.anchors_per_cell, 1, "objectness")
        self.shift = convolution(4 * self.anchors_per_cell, 1, "shift")
        self.built = True

    def call(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and shifts of a map's anchors, cell by cell.

        Args:
            inputs: `(B, H, W, C)`.

        Returns:
            `(B, H * W * A)` and `(B, H * W * A, 4)`, both float32.
        """
        hidden = self.hidden(inputs)
        count = inputs.shape[1] * inputs.shape[2] * self.anchors_per_cell
        logits = ops.reshape(self.objectness(hidden), (-1, count))
        deltas = ops.reshape(self.shift(hidden), (-1, count, 4))
        return ops.cast(logits, "float32"), ops.cast(deltas, "float32")


def rpn_losses(logits: Tensor, deltas: Tensor, anchors: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Loss terms of sampled anchors, all maps together.

    Binary cross-entropy, and the L1 distance of the positives' shifts, both summed and divided by
    `256 * B`, however many anchors count.

    Args:
        logits: `(B, N)`.
        deltas: `(B, N, 4)`.
        anchors: `(N, 4)` in pixels.
        batch: of `pipeline`.

    Returns:
        Scalars `rpn_objectness` and `rpn_box`, at least 0.
    """
    boxes = batch[BOXES]
    iou = box_math.iou(boxes, anchors)
    matches, labels = match(iou, batch[CLASSES] >= 0, LOW_IOU, HIGH_IOU, with_low_quality=True)
    noise = image_noise(batch[SEED], anchors.shape[0], purpose=0)
    chosen, is_positive, counts = sample(labels, noise, NUM_SAMPLES, POSITIVE_SHARE)
    matched = tf.gather(matches, chosen, batch_dims=1)
    targets = box_math.encode(
        tf.gather(boxes, matched, batch_dims=1), tf.gather(anchors, chosen), _WEIGHTS
    )
    is_positive, counts = (ops.cast(x, "float32") for x in (is_positive, counts))
    objectness = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=is_positive, logits=tf.gather(logits, chosen, batch_dims=1)
    )
    distance = ops.sum(ops.abs(tf.gather(deltas, chosen, batch_dims=1) - targets), axis=-1)
    divisor = NUM_SAMPLES * boxes.shape[0]
    return {
        "rpn_objectness": ops.sum(objectness * counts) / divisor,
        "rpn_box": ops.sum(distance * is_positive) / divisor,
    }


def propose(
    logits: Sequence[Tensor],
    deltas: Sequence[Tensor],
    anchors: Sequence[Tensor],
    sizes: Tensor,
    num_before: int,
    num_after: int,
) -> tuple[Tensor, Tensor]:
    """The most likely boxes of all maps. No gradient flows.

    Args:
        logits: of each map, `(B, N)`.
        deltas: of each map, `(B, N, 4)`.
        anchors: of each map, `(N, 4)`.
        sizes: `(B, 2)`. Height and width of each image in pixels.
        num_before: boxes per map before suppression.
        num_after: boxes per image after it, R.

    Returns:
        Boxes by falling score, `(B, R, 4)`, and whether there is one, `(B, R)` booleans. R is smaller
        if there are not that many anchors.
    """
    all_boxes, all_scores, all_kept = [], [], []
    for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
        scores, places = ops.top_k(
            ops.stop_gradient(level_logits), min(num_before, level_logits.shape[1])
        )
        chosen = tf.gather(ops.stop_gradient(level_deltas), places, batch_dims=1)
        boxes = box_math.decode(chosen, tf.gather(level_anchors, places), _WEIGHTS)
        boxes = box_math.clip(boxes, sizes)
        is_real = box_math.area(boxes) > 0
        kept, is_kept = nms.suppress(boxes, scores, is_real, NMS_IOU, num_after)
        all_boxes.append(tf.gather(boxes, kept, batch_dims=1))
        all_scores.append(ops.where(is_kept, tf.gather(scores, kept, batch_dims=1), -1e9))
        all_kept.append(is_kept)
    scores = ops.concatenate(all_scores, axis=1)
    _, order = ops.top_k(scores, min(num_after, scores.shape[1]))
    boxes = tf.gather(ops.concatenate(all_boxes, axis=1), order, batch_dims=1)
    return boxes, tf.gather(ops.concatenate(all_kept, axis=1), order, batch_dims=1)
