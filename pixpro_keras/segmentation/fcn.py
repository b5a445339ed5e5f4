"""The fully convolutional network of the Cityscapes protocol, and the dense linear probe."""

from types import MappingProxyType

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.backbones.levels import level_network
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.initializers import he_normal_fan_out
from pixpro_keras.ops import cross_replica_mean
from pixpro_keras.segmentation.mask_pipeline import IMAGE, MASK
from pixpro_keras.segmentation.mask_source import IGNORED
from pixpro_keras.task import Task
from pixpro_keras.types import Batch, Tensor

_HEAD_CHANNELS = 256
_HEAD_DILATION = 6


class FCN(Task):
    """Per-pixel classification: two dilated 3x3 convolutions on C5 and a linear classifier.

    Frozen, it is the dense linear probe instead: a linear classifier alone, on a backbone in
    inference mode that is not trained.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        num_classes: classes of pixels.
        is_frozen: whether to probe instead.
        level: map on which it stands, `c2` to `c5`.
        bn_momentum: share of the old moving statistics that batch norm keeps in each step.
        **kwargs: of `Task`.

    Reference:
        Long et al., CVPR 2015, arXiv:1411.4038, in the form of MoCo's Cityscapes protocol.
    """

    loss_bounds = MappingProxyType({"segmentation": (0.0, None)})

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        is_frozen: bool = False,
        level: str = "c5",
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.is_frozen = is_frozen
        if is_frozen:
            backbone.trainable = False
        self.network = level_network(backbone, level)
        channels = self.network.output_shape[-1]
        self.head: list[keras.layers.Layer] = []
        if not is_frozen:
            for number in (1, 2):
                self._append(_convolution(f"conv{number}"), channels)
                channels = _HEAD_CHANNELS
                norm = BatchNormalization(
                    momentum=bn_momentum,
                    epsilon=1e-5,
                    name=f"bn{number}",
                )
                self._append(norm, channels)
                self._append(keras.layers.ReLU(name=f"relu{number}"), channels)
        normal = keras.initializers.RandomNormal(stddev=0.01)
        classifier = keras.layers.Conv2D(
            num_classes, 1, kernel_initializer=normal, name="classifier"
        )
        self._append(classifier, channels)

    def _append(self, layer: keras.layers.Layer, channels: int) -> None:
        layer.build((None, None, None, channels))
        self.head.append(layer)

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `segmentation`, mean cross-entropy of pixels that count; `pixel_accuracy`.

        Args:
            batch: `image` and `mask`.
            training: whether batch norm normalises with the statistics of the batch.
        """
        mask = ops.cast(batch[MASK], "int32")
        logits = self.logits(batch[IMAGE], tuple(mask.shape[1:3]), training)
        counts = ops.cast(mask != IGNORED, "float32")
        known = ops.where(mask != IGNORED, mask, 0)
        losses = ops.sparse_categorical_crossentropy(known, logits, from_logits=True)
        # Of all replicas, so that the mean of their losses is the mean over the whole batch.
        total = ops.maximum(cross_replica_mean(ops.sum(counts)), 1.0)
        right = ops.cast(ops.equal(ops.argmax(logits, axis=-1), known), "float32")
        return {
            "segmentation": ops.sum(losses * counts) / total,
            "pixel_accuracy": ops.sum(right * counts) / total,
        }

    def logits(self, images: Tensor, size: tuple[int, int], training: bool = False) -> Tensor:
        """Scores of each pixel, bilinearly enlarged: `(B, height, width, num_classes)` float32."""
        x = self.network(images, training=training and not self.is_frozen)
        for layer in self.head:
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            x = layer(x, training=training) if is_norm else layer(x)
        return tf.image.resize(ops.cast(x, "float32"), size, "bilinear")


def _convolution(name: str) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(
        _HEAD_CHANNELS,
        3,
        padding="same",
        dilation_rate=_HEAD_DILATION,
        use_bias=False,
        kernel_initializer=he_normal_fan_out(),
        name=name,
    )
