"""Classification and box regression of proposals: training targets, losses and detections."""

import dataclasses

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.detection.box_pipeline import BOXES, CLASSES, SEED
from pixpro_keras.detection.boxes import (
    box_area,
    clip_boxes,
    decode_boxes,
    encode_boxes,
    pairwise_iou,
)
from pixpro_keras.detection.matching import match_boxes
from pixpro_keras.detection.nms import multiclass_non_max_suppression
from pixpro_keras.detection.sampling import image_noise, subsample_labels
from pixpro_keras.ops import argmax, cross_replica_mean
from pixpro_keras.types import Batch, Tensor

IOU_THRESHOLD = 0.5
POSITIVE_FRACTION = 0.25
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SCORE_THRESHOLD, NMS_IOU_THRESHOLD, MAX_DETECTIONS = 0.05, 0.5, 100


@dataclasses.dataclass(frozen=True)
class Rois:
    """Sampled proposals with their training targets; positives come first.

    Attributes:
        boxes: `(B, R, 4)` in pixels.
        classes: `(B, R)` int64: the true class, or K, which is background.
        matches: `(B, R)` int64. Index of the ground-truth box that each comes closest to.
        is_positive: `(B, R)` float32 of 0 and 1.
        is_valid: `(B, R)` float32 of 0 and 1; 0 for padding, where proposals are too few.
    """

    boxes: Tensor
    classes: Tensor
    matches: Tensor
    is_positive: Tensor
    is_valid: Tensor


def sample_rois(
    proposals: Tensor, is_valid: Tensor, batch: Batch, num_rois: int, num_classes: int
) -> Rois:
    """Samples proposals for training; the ground-truth boxes are among the candidates.

    Args:
        proposals: `(B, N, 4)`.
        is_valid: `(B, N)` booleans; False for padding.
        batch: batch of `box_pipeline`.
        num_rois: R, proposals sampled per image.
        num_classes: K, number of classes without the background.

    Returns:
        R proposals of each image.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.detection import sample_rois

        batch = {
            "boxes": np.array([[[10, 10, 40, 40]]], "float32"),
            "classes": np.array([[1]]),
            "seed": tf.constant([[0, 1]]),
        }
        proposals = np.array([[[12, 12, 40, 40], [50, 50, 60, 60]]], "float32")
        rois = sample_rois(proposals, np.ones((1, 2), bool), batch, num_rois=4, num_classes=2)
        print(rois.boxes.shape, rois.is_positive)
        ```
    """
    true_boxes, true_classes = batch[BOXES], ops.cast(batch[CLASSES], "int64")
    boxes = ops.concatenate([true_boxes, proposals], axis=1)
    is_valid = ops.concatenate([true_classes >= 0, is_valid], axis=1)
    iou = pairwise_iou(true_boxes, boxes)
    matches, labels = match_boxes(
        iou, true_classes >= 0, IOU_THRESHOLD, IOU_THRESHOLD, is_candidate=is_valid
    )
    noise = image_noise(batch[SEED], boxes.shape[1], offset=1)
    indices, is_positive, is_sampled = subsample_labels(labels, noise, num_rois, POSITIVE_FRACTION)
    matches = tf.gather(matches, indices, batch_dims=1)
    classes = tf.gather(true_classes, matches, batch_dims=1)
    return Rois(
        ops.stop_gradient(tf.gather(boxes, indices, batch_dims=1)),
        ops.where(is_positive, classes, num_classes),
        matches,
        ops.cast(is_positive, "float32"),
        ops.cast(is_sampled, "float32"),
    )


@keras.saving.register_keras_serializable("pixpro_keras")
class BoxPredictor(keras.layers.Layer):
    """Class logits and a box for each class, from vectors.

    Args:
        num_classes: K, number of classes without the background.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import BoxPredictor

        predictor = BoxPredictor(num_classes=3)
        predictor.build((None, None, 8))
        logits, deltas = predictor(np.zeros((2, 5, 8), "float32"))
        print(logits.shape, deltas.shape)  # (2, 5, 4) (2, 5, 3, 4)
        ```
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
        """Predicts classes and boxes.

        Args:
            inputs: `(B, R, D)`.

        Returns:
            Logits `(B, R, K + 1)`, background last, and deltas `(B, R, K, 4)`, both float32.
        """
        deltas = ops.cast(self.boxes(inputs), "float32")
        deltas = ops.reshape(deltas, (-1, inputs.shape[1], self.num_classes, 4))
        return ops.cast(self.classes(inputs), "float32"), deltas

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {"num_classes": self.num_classes}


def roi_losses(logits: Tensor, deltas: Tensor, rois: Rois, batch: Batch) -> dict[str, Tensor]:
    """Loss terms of sampled proposals.

    Cross-entropy, and the L1 distance of the positives' deltas for the true class, both summed and
    divided by the number of valid proposals on all replicas.

    Args:
        logits: `(B, R, K + 1)`.
        deltas: `(B, R, K, 4)`.
        rois: sampled proposals.
        batch: batch of `box_pipeline`.

    Returns:
        Scalars `box_class` and `box`, at least 0, and two for the log: `class_accuracy`, in [0, 1], and
        `positive_rois`, positives per image.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.detection import roi_losses, sample_rois

        batch = {
            "boxes": np.array([[[10, 10, 40, 40]]], "float32"),
            "classes": np.array([[1]]),
            "seed": tf.constant([[0, 1]]),
        }
        proposals = np.array([[[12, 12, 40, 40], [50, 50, 60, 60]]], "float32")
        rois = sample_rois(proposals, np.ones((1, 2), bool), batch, num_rois=4, num_classes=2)
        num_rois = rois.boxes.shape[1]
        logits, deltas = np.zeros((1, num_rois, 3), "f"), np.zeros((1, num_rois, 2, 4), "f")
        print(roi_losses(logits, deltas, rois, batch))
        ```
    """
    losses = ops.sparse_categorical_crossentropy(rois.classes, logits, from_logits=True)
    true_boxes = tf.gather(batch[BOXES], rois.matches, batch_dims=1)
    targets = encode_boxes(true_boxes, rois.boxes, BOX_WEIGHTS)
    true_class = ops.minimum(rois.classes, deltas.shape[2] - 1)  # background has no box
    class_deltas = tf.gather(deltas, true_class, batch_dims=2)
    distance = ops.sum(ops.abs(class_deltas - targets), axis=-1)
    # Of all replicas, so that the mean of their losses is the mean over the whole batch.
    total = ops.maximum(cross_replica_mean(ops.sum(rois.is_valid)), 1.0)
    is_right = ops.cast(ops.equal(argmax(logits, axis=-1), rois.classes), "float32")
    return {
        "box_class": ops.sum(losses * rois.is_valid) / total,
        # Padding may be matched, but is never positive; 0 * inf would be NaN.
        "box": ops.sum(ops.where(rois.is_positive > 0, distance, 0.0)) / total,
        "class_accuracy": ops.sum(is_right * rois.is_valid) / total,
        "positive_rois": ops.sum(rois.is_positive) / rois.boxes.shape[0],
    }


def postprocess_detections(
    logits: Tensor, deltas: Tensor, proposals: Tensor, is_valid: Tensor, sizes: Tensor
) -> dict[str, Tensor]:
    """Detections from the predictions for proposals.

    Args:
        logits: `(B, R, K + 1)`.
        deltas: `(B, R, K, 4)`.
        proposals: `(B, R, 4)`.
        is_valid: `(B, R)` booleans; False for padding.
        sizes: `(B, 2)`. Height and width of each image in pixels.

    Returns:
        By decreasing score, D at most 100: `boxes` `(B, D, 4)` in pixels, `scores` `(B, D)`, 0 for
        padding, and `classes` `(B, D)` int32.
    """
    num_rois, num_classes = deltas.shape[1:3]
    scores = ops.softmax(logits)[..., :num_classes]
    scores = ops.where(is_valid[..., None], scores, 0.0)
    boxes = decode_boxes(deltas, proposals[:, :, None], BOX_WEIGHTS)
    boxes = clip_boxes(ops.reshape(boxes, (-1, num_rois * num_classes, 4)), sizes)
    boxes = ops.reshape(boxes, (-1, num_rois, num_classes, 4))
    scores = ops.where(box_area(boxes) > 0, scores, 0.0)  # Outside of the image nothing is left.
    boxes, scores, classes, _ = multiclass_non_max_suppression(
        boxes, scores, SCORE_THRESHOLD, NMS_IOU_THRESHOLD, MAX_DETECTIONS
    )
    return {"boxes": boxes, "scores": scores, "classes": classes}
