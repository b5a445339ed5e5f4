"""Masks of boxes: prediction head, training targets and loss."""

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.detection.box_pipeline import BOXES, MASKS
from pixpro_keras.detection.roi_heads import Rois
from pixpro_keras.layers.initializers import he_normal_fan_out
from pixpro_keras.layers.masked_batch_norm import MaskedBatchNorm
from pixpro_keras.layers.roi_align import roi_align
from pixpro_keras.ops import cross_replica_mean
from pixpro_keras.types import Batch, Tensor

_CHANNELS = 256


@keras.saving.register_keras_serializable("pixpro_keras")
class MaskHead(keras.layers.Layer):
    """Convolutions with batch norm, a transposed convolution, and a mask for each class.

    Args:
        num_classes: K, number of classes without the background.
        num_convolutions: 3x3 convolutions before the transposed one.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.

    Reference:
        detectron2's MaskRCNNConvUpsampleHead.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import MaskHead

        head = MaskHead(num_classes=3, num_convolutions=1)
        head.build((None, None, 7, 7, 8))
        inputs, is_valid = np.zeros((2, 5, 7, 7, 8), "float32"), np.ones((2, 5), "float32")
        print(head(inputs, is_valid).shape)  # (2, 5, 14, 14, 3)
        ```
    """

    def __init__(
        self,
        num_classes: int,
        num_convolutions: int,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.num_convolutions = num_convolutions
        self.bn_momentum = bn_momentum
        self.convolutions: list[keras.layers.Layer] = []
        self.norms: list[MaskedBatchNorm] = []

    def build(self, input_shape: tuple) -> None:
        """Creates the layers for features `(B, P, S, S, C)`."""
        channels = input_shape[-1]
        for number in range(1, self.num_convolutions + 1):
            convolution = keras.layers.Conv2D(
                _CHANNELS,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer=he_normal_fan_out(),  # A shared one gives all layers the same kernel.
                name=f"conv{number}",
                dtype=self.dtype_policy,
            )
            convolution.build((None, None, None, channels))
            channels = _CHANNELS
            norm = MaskedBatchNorm(
                self.bn_momentum,
                name=f"bn{number}",
                dtype=self.dtype_policy,
            )
            norm.build((None, None, channels))
            self.convolutions.append(convolution)
            self.norms.append(norm)
        self.enlarge = keras.layers.Conv2DTranspose(
            _CHANNELS,
            2,
            strides=2,
            activation="relu",
            kernel_initializer=he_normal_fan_out(),
            name="enlarge",
            dtype=self.dtype_policy,
        )
        self.enlarge.build((None, None, None, channels))
        self.masks = keras.layers.Conv2D(
            self.num_classes,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            name="masks",
            dtype=self.dtype_policy,
        )
        self.masks.build((None, None, None, _CHANNELS))
        self.built = True

    def call(self, inputs: Tensor, is_valid: Tensor, training: bool = False) -> Tensor:
        """Logits of each class's mask.

        Args:
            inputs: `(B, P, S, S, C)`.
            is_valid: `(B, P)` of 0 and 1. Batch norm takes its statistics from boxes with 1 only.
            training: whether batch norm normalizes with the statistics of the batch.

        Returns:
            `(B, P, 2S, 2S, K)` float32.
        """
        num_boxes, size, _, channels = inputs.shape[1:]
        x = ops.reshape(inputs, (-1, size, size, channels))
        is_valid_cell = ops.repeat(is_valid, size * size, axis=1)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = ops.reshape(convolution(x), (-1, num_boxes * size * size, _CHANNELS))
            x = ops.relu(norm(x, is_valid_cell, training=training))
            x = ops.reshape(x, (-1, size, size, _CHANNELS))
        x = ops.cast(self._enlarged_masks(x), "float32")
        return ops.reshape(x, (-1, num_boxes, 2 * size, 2 * size, self.num_classes))

    def _enlarged_masks(self, x: Tensor) -> Tensor:
        """`masks(enlarge(x))`, `(N, S, S, C)` to `(N, 2S, 2S, K)`, with the cells moved last.

        Each cell becomes four by one product; moving them costs little after `masks`, since they have K
        channels and not 256.
        """
        size, channels = x.shape[2:]
        kernel = tf.reshape(self.enlarge.kernel, (-1, channels))  # of (2, 2, 256, C)
        x = tf.matmul(tf.reshape(x, (-1, channels)), kernel, transpose_b=True)
        x = tf.nn.relu(tf.nn.bias_add(x, tf.tile(self.enlarge.bias, [4])))
        x = self.masks(tf.reshape(x, (-1, size * size, 4, _CHANNELS)))
        x = tf.reshape(x, (-1, size, size, 2, 2, self.num_classes))
        return tf.reshape(
            tf.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 2 * size, 2 * size, self.num_classes)
        )

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "num_classes": self.num_classes,
            "num_convolutions": self.num_convolutions,
            "bn_momentum": self.bn_momentum,
        }


def mask_targets(rois: Rois, batch: Batch, num_boxes: int, size: int) -> Tensor:
    """True masks inside of the first sampled boxes.

    Args:
        rois: sampled proposals.
        batch: batch of `box_pipeline`, with masks.
        num_boxes: P, number of boxes that get a mask.
        size: S, side of the masks.

    Returns:
        `(B, P, S, S)` float32 of 0 and 1.
    """
    matches = rois.matches[:, :num_boxes]
    true_boxes = tf.gather(batch[BOXES], matches, batch_dims=1)
    # No GPU gathers bytes.
    bitmaps = tf.gather(ops.cast(batch[MASKS], "bool"), matches, batch_dims=1)
    resolution = bitmaps.shape[-1]
    # Corners of the sampled box in its true box, which the bitmap fills.
    corner, sides = true_boxes[..., :2], true_boxes[..., 2:] - true_boxes[..., :2]
    corners = ops.reshape(rois.boxes[:, :num_boxes], (-1, num_boxes, 2, 2))
    corners = (corners - corner[:, :, None]) / ops.maximum(sides, 1e-6)[:, :, None] * resolution
    bitmaps = ops.reshape(ops.cast(bitmaps, "float32"), (-1, resolution, resolution, 1))
    values = roi_align(bitmaps, ops.reshape(corners, (-1, 1, 4)), size)
    return ops.cast(ops.reshape(values, (-1, num_boxes, size, size)) >= 0.5, "float32")


def mask_loss(logits: Tensor, rois: Rois, batch: Batch) -> Tensor:
    """Binary cross-entropy of the true class's mask, over the pixels of all positives.

    Args:
        logits: `(B, P, S, S, K)` of the first P sampled proposals.
        rois: sampled proposals.
        batch: batch of `box_pipeline`, with masks.

    Returns:
        Scalar float32, at least 0.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import mask_loss
        from pixpro_keras.detection.roi_heads import Rois

        box, one = np.array([[[10, 10, 40, 40]]], "float32"), np.ones((1, 1), "float32")
        rois = Rois(box, np.array([[0]]), np.array([[0]]), is_positive=one, is_valid=one)
        batch = {"boxes": box, "masks": np.ones((1, 1, 112, 112), "uint8")}
        print(mask_loss(np.zeros((1, 1, 14, 14, 2), "float32"), rois, batch))  # log(2)
        ```
    """
    num_boxes, size, num_classes = logits.shape[1], logits.shape[2], logits.shape[-1]
    targets = mask_targets(rois, batch, num_boxes, size)
    class_logits = select_class(logits, ops.minimum(rois.classes[:, :num_boxes], num_classes - 1))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=class_logits)
    is_positive = rois.is_positive[:, :num_boxes]
    # Of all replicas, so that the mean of their losses is the mean over the whole batch.
    total = ops.maximum(cross_replica_mean(ops.sum(is_positive)), 1.0)
    return ops.sum(ops.mean(losses, axis=(2, 3)) * is_positive) / total


def select_class(masks: Tensor, classes: Tensor) -> Tensor:
    """Mask of one class of each box.

    Args:
        masks: `(B, P, S, S, K)`, logits or probabilities.
        classes: `(B, P)` integers, in [0, K).

    Returns:
        `(B, P, S, S)`.
    """
    return ops.take_along_axis(masks, classes[..., None, None, None], axis=-1)[..., 0]
