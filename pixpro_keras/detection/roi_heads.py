"""What an object is, and exactly where: training targets, losses and detections of proposals."""

import dataclasses

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.detection import boxes as box_math
from pixpro_keras.detection import nms
from pixpro_keras.detection.box_pipeline import BOXES, CLASSES, SEED
from pixpro_keras.detection.matching import IGNORED, match
from pixpro_keras.detection.sampling import image_noise, sample
from pixpro_keras.ops import cross_replica_mean
from pixpro_keras.types import Batch, Tensor

IOU = 0.5
POSITIVE_SHARE = 0.25
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SCORE_THRESHOLD, NMS_IOU, NUM_DETECTIONS = 0.05, 0.5, 100


@dataclasses.dataclass(frozen=True)
class Rois:
    """Sampled proposals with what they should become; positives come first.

    Attributes:
        boxes: `(B, R, 4)` in pixels.
        classes: `(B, R)` int32: the true class, or K, which is background.
        matches: `(B, R)` int32. The true box that each comes closest to.
        is_positive: `(B, R)` float32 of 0 and 1.
        counts: `(B, R)` float32 of 0 and 1; where proposals are too few, the rest does not count.
    """

    boxes: Tensor
    classes: Tensor
    matches: Tensor
    is_positive: Tensor
    counts: Tensor


def sample_rois(
    proposals: Tensor, is_real: Tensor, batch: Batch, num_rois: int, num_classes: int
) -> Rois:
    """Samples the proposals that are trained on, the true boxes among them.

    Args:
        proposals: `(B, N, 4)`.
        is_real: `(B, N)` booleans.
        batch: of `pipeline`.
        num_rois: R, proposals sampled per image.
        num_classes: K.
    """
    true_boxes, true_classes = batch[BOXES], batch[CLASSES]
    boxes = ops.concatenate([true_boxes, proposals], axis=1)
    is_real = ops.concatenate([true_classes >= 0, is_real], axis=1)
    iou = box_math.iou(true_boxes, boxes)
    matches, labels = match(iou, true_classes >= 0, IOU, IOU)
    labels = ops.where(is_real, labels, IGNORED)
    noise = image_noise(batch[SEED], boxes.shape[1], purpose=1)
    chosen, is_positive, counts = sample(labels, noise, num_rois, POSITIVE_SHARE)
    matches = tf.gather(matches, chosen, batch_dims=1)
    classes = tf.gather(true_classes, matches, batch_dims=1)
    return Rois(
        ops.stop_gradient(tf.gather(boxes, chosen, batch_dims=1)),
        ops.where(is_positive, classes, num_classes),
        matches,
        ops.cast(is_positive, "float32"),
        ops.cast(counts, "float32"),
    )


class BoxPredictor(keras.layers.Layer):
    """Class logits and a box for each class, from vectors.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def build(self, input_shape: tuple) -> None:
        """Creates the two linear layers."""

        def linear(units: int, stddev: float, name: str) -> keras.layers.Dense:
            normal = keras.initializers.RandomNormal(stddev=stddev)
            layer = keras.layers.Dense(
                units, kernel_initializer=normal, name=name, dtype=self.dtype_policy
            )
            layer.build(input_shape)
            return layer

        self.classes = linear(self.num_classes + 1, 0.01, "classes")
        self.boxes = linear(4 * self.num_classes, 0.001, "boxes")
        self.built = True

    def call(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, R, D)` to logits `(B, R, K + 1)`, background last, and shifts `(B, R, K, 4)`."""
        deltas = ops.cast(self.boxes(inputs), "float32")
        deltas = ops.reshape(deltas, (-1, inputs.shape[1], self.num_classes, 4))
        return ops.cast(self.classes(inputs), "float32"), deltas


def roi_losses(logits: Tensor, deltas: Tensor, rois: Rois, batch: Batch) -> dict[str, Tensor]:
    """Loss terms of sampled proposals.

    Cross-entropy, and the L1 distance of the positives' shifts for the true class, both summed and
    divided by the number of proposals that count, on all replicas.

    Args:
        logits: `(B, R, K + 1)`.
        deltas: `(B, R, K, 4)`.
        rois: the proposals.
        batch: of `pipeline`.

    Returns:
        Scalars `box_class` and `box`, at least 0, and to watch: `class_accuracy`, in [0, 1], and
        `positive_rois`, positives per image.
    """
    losses = ops.sparse_categorical_crossentropy(rois.classes, logits, from_logits=True)
    true_boxes = tf.gather(batch[BOXES], rois.matches, batch_dims=1)
    targets = box_math.encode(true_boxes, rois.boxes, BOX_WEIGHTS)
    own_class = ops.minimum(rois.classes, deltas.shape[2] - 1)  # background has no box
    own = tf.gather(deltas, own_class, batch_dims=2)
    distance = ops.sum(ops.abs(own - targets), axis=-1)
    # Of all replicas, so that the mean of their losses is the mean over the whole batch.
    total = ops.maximum(cross_replica_mean(ops.sum(rois.counts)), 1.0)
    is_right = ops.cast(
        ops.equal(ops.cast(ops.argmax(logits, -1), "int32"), rois.classes), "float32"
    )
    return {
        "box_class": ops.sum(losses * rois.counts) / total,
        # Padding has been a match, but is never positive; 0 * inf would be NaN.
        "box": ops.sum(ops.where(rois.is_positive > 0, distance, 0.0)) / total,
        "class_accuracy": ops.sum(is_right * rois.counts) / total,
        "positive_rois": ops.sum(rois.is_positive) / rois.boxes.shape[0],
    }


def find_objects(
    logits: Tensor, deltas: Tensor, proposals: Tensor, is_real: Tensor, sizes: Tensor
) -> dict[str, Tensor]:
    """Detections from what was predicted for proposals.

    Args:
        logits: `(B, R, K + 1)`.
        deltas: `(B, R, K, 4)`.
        proposals: `(B, R, 4)`.
        is_real: `(B, R)` booleans.
        sizes: `(B, 2)`. Height and width of each image in pixels.

    Returns:
        By falling score, D at most 100: `boxes` `(B, D, 4)` in pixels, `scores` `(B, D)`, 0 where
        there is none, and `classes` `(B, D)` int32.
    """
    num_rois, num_classes = deltas.shape[1:3]
    scores = ops.softmax(logits)[..., :num_classes]
    scores = ops.where(is_real[..., None], scores, 0.0)
    boxes = box_math.decode(deltas, proposals[:, :, None], BOX_WEIGHTS)
    boxes = box_math.clip(ops.reshape(boxes, (-1, num_rois * num_classes, 4)), sizes)
    boxes = ops.reshape(boxes, (-1, num_rois, num_classes, 4))
    boxes, scores, classes, _ = nms.suppress_per_class(
        boxes, scores, SCORE_THRESHOLD, NMS_IOU, NUM_DETECTIONS
    )
    return {"boxes": boxes, "scores": scores, "classes": classes}
