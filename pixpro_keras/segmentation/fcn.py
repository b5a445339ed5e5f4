"""The fully convolutional network of the Cityscapes protocol, and the dense linear probe."""

from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.backbones.data_format import require_channels_last
from pixpro_keras.backbones.frozen import warn_of_frozen
from pixpro_keras.backbones.levels import level_network, map_strides
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.layers.initializers import he_normal_fan_out
from pixpro_keras.ops import cross_replica_mean
from pixpro_keras.segmentation.mask_pipeline import IMAGE, MASK
from pixpro_keras.task import Task
from pixpro_keras.types import IGNORED, Batch, Tensor
from pixpro_keras.utils import checks

_HEAD_CHANNELS = 256
_HEAD_DILATION = 6


@keras.saving.register_keras_serializable("pixpro_keras")
class FCN(Task):
    """Per-pixel classification: two dilated 3x3 convolutions on C5 and a linear classifier.

    Frozen, it is the dense linear probe instead: only a linear classifier, on a backbone in
    inference mode that is not trained.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        num_classes: number of classes of pixels.
        is_frozen: whether it is the dense linear probe.
        level: map that is classified, `c2` to `c5`.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.
        align_corners: whether cell k of the map is centered at pixel `k * stride`, as in ResNets, whose
            padding is symmetric; else in the middle of its share of the pixels, as if the map covered
            the image exactly.
        **kwargs: arguments of `Task`.

    Raises:
        DataFormatError: if Keras's image data format is channels_first.
        ValueError: if there is no class, or corners are aligned and the map has no stride.

    Reference:
        Long et al., CVPR 2015, arXiv:1411.4038, in the form of MoCo's Cityscapes protocol.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.segmentation import FCN

        inputs = keras.Input((None, None, 3))
        backbone = keras.Model(inputs, keras.layers.Conv2D(8, 3, 4, padding="same")(inputs))
        task = FCN(backbone, num_classes=3, is_frozen=True)
        batch = {
            "image": np.random.rand(2, 16, 16, 3).astype("float32"),
            "mask": np.random.randint(0, 3, (2, 16, 16)),
        }
        print(task(batch))
        ```
    """

    loss_bounds = MappingProxyType({"segmentation": (0.0, None)})

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        is_frozen: bool = False,
        level: str = "c5",
        bn_momentum: float = 0.9,
        align_corners: bool = False,
        **kwargs,
    ):
        require_channels_last()
        super().__init__(**kwargs)
        self.backbone = backbone
        self.num_classes = int(checks.at_least("num_classes", num_classes, 1))
        self.is_frozen = is_frozen
        self.level = level
        self.bn_momentum = bn_momentum
        if is_frozen:
            backbone.trainable = False
        self.network = level_network(backbone, level)
        if not is_frozen:
            warn_of_frozen(self.network)
        self.stride = map_strides(self.network)[0] if align_corners else None
        if align_corners and self.stride is None:
            raise ValueError(
                f"the maps of {backbone.name} have no stride, which `align_corners` needs"
            )
        for layer in backbone.layers:
            if not any(layer is used for used in self.network.layers):
                layer.trainable = False  # The loss has no gradient for what follows the map.
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

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "is_frozen": self.is_frozen,
            "level": self.level,
            "bn_momentum": self.bn_momentum,
            "align_corners": self.stride is not None,
        }

    def check_batch(self, batch: Batch) -> None:
        """Raises a ValueError if a batch has no images or masks."""
        super().check_batch(batch)
        self.require_keys(batch, IMAGE, MASK)

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `segmentation`, mean cross-entropy of labeled pixels, and `pixel_accuracy`.

        Args:
            batch: entries `image` `(B, H, W, 3)` and `mask` `(B, H, W)`, 255 is ignored.
            training: whether batch norm normalizes with the statistics of the batch.

        Returns:
            Scalars by name.
        """
        mask = ops.cast(batch[MASK], "int64")
        logits = self.logits(batch[IMAGE], tuple(mask.shape[1:3]), training)
        labels = ops.reshape(mask, (-1,))
        is_labeled = ops.cast(labels != IGNORED, "float32")
        losses, is_right = _cross_entropy(
            ops.reshape(logits, (-1, logits.shape[-1])), ops.where(labels != IGNORED, labels, 0)
        )
        # Of all replicas, so that the mean of their losses is the mean over the whole batch.
        total = ops.maximum(cross_replica_mean(ops.sum(is_labeled)), 1.0)
        return {
            "segmentation": ops.sum(losses * is_labeled) / total,
            "pixel_accuracy": ops.sum(ops.cast(is_right, "float32") * is_labeled) / total,
        }

    def logits(self, images: Tensor, size: tuple[int, int], training: bool = False) -> Tensor:
        """Scores of each pixel, bilinearly enlarged.

        Args:
            images: `(B, H, W, 3)`, preprocessed.
            size: height and width of the scores.
            training: whether batch norm normalizes with the statistics of the batch.

        Returns:
            `(B, height, width, num_classes)` float32.
        """
        x = self.network(images, training=training and not self.is_frozen)
        for layer in self.head:
            depends = isinstance(layer, Conv2D | BatchNormalization)
            x = layer(x, training=training) if depends else layer(x)
        x = ops.cast(x, "float32")
        if self.stride is None:
            return tf.image.resize(x, size, "bilinear")
        rows, columns = (
            _shares(length, cells, self.stride)
            for length, cells in zip(size, ops.shape(x)[1:3], strict=True)
        )
        return tf.einsum("Ww,bHwc->bHWc", columns, tf.einsum("Hh,bhwc->bHwc", rows, x))


def _shares(length: int | Tensor, cells: int | Tensor, stride: int) -> Tensor:
    """Shares `(length, cells)` of cells in pixels by linear interpolation, with cell k at pixel `k * stride`.

    Pixels beyond the last cell have its value.
    """
    pixels = tf.cast(tf.range(length), tf.float32) / stride
    numbers = tf.cast(tf.range(cells), tf.float32)
    return tf.maximum(1.0 - tf.abs(tf.minimum(pixels, numbers[-1])[:, None] - numbers), 0.0)


def _cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy `(N,)` of scores `(N, num_classes)`, and whether the label has the highest score.

    Takes half the time of TensorFlow's operation, which does not vectorize over a few classes.
    """
    own = tf.gather(logits, labels, batch_dims=1)
    by_class = tf.transpose(logits)
    best = tf.stop_gradient(tf.reduce_max(by_class, axis=0))
    losses = tf.math.log(tf.reduce_sum(tf.exp(by_class - best), axis=0)) + best - own
    return losses, own >= best


def _convolution(name: str) -> Conv2D:
    return Conv2D(
        _HEAD_CHANNELS,
        3,
        padding="same",
        dilation_rate=_HEAD_DILATION,
        use_bias=False,
        kernel_initializer=he_normal_fan_out(),
        name=name,
    )
