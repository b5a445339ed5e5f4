"""Detectors on a feature pyramid."""

import keras
from keras import ops

from pixpro_keras.backbones.frozen import warn_of_frozen
from pixpro_keras.backbones.levels import feature_network, map_strides
from pixpro_keras.detection.boxes import box_area
from pixpro_keras.detection.detector import Detector, DetectorConfig
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.layers.initializers import he_normal_fan_out
from pixpro_keras.layers.roi_align import pyramid_roi_align
from pixpro_keras.types import Tensor

_CHANNELS = 256
_VECTOR_SIZE = 1024
_BOX_POOL_SIZE, _MASK_POOL_SIZE = 7, 14
# Side in pixels of a box that is pooled from P4; half of it is pooled from P3, and so on.
_CANONICAL_BOX_SIZE = 224
# Strides of P2 to P6; the second ones with a dilated last stage.
_STRIDES = ((4, 8, 16, 32, 64), (4, 8, 16, 16, 32))


@keras.saving.register_keras_serializable("pixpro_keras")
class FPNDetector(Detector):
    """Proposals on P2 to P6; heads of four convolutions and, for boxes, a hidden layer.

    Args:
        backbone: functional model with maps C2 to C5; C5 may keep C4's stride.
        config: sizes.
        **kwargs: arguments of `Task`.

    Raises:
        ValueError: if the backbone has no such maps.

    Reference:
        Lin et al., CVPR 2017, arXiv:1612.03144; the 4conv1fc head of Wu and He, ECCV 2018,
        arXiv:1803.08494; both as in detectron2.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.detection import DetectorConfig, FPNDetector

        inputs = x = keras.Input((None, None, 3))
        for _ in range(5):  # C1 to C5
            x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
        task = FPNDetector(keras.Model(inputs, x), DetectorConfig(num_classes=2))
        images, sizes = np.zeros((1, 64, 64, 3), "float32"), np.array([[64.0, 64.0]], "float32")
        print(task.detect(images, sizes)["boxes"].shape)
        ```
    """

    anchor_sizes = ((32,), (64,), (128,), (256,), (512,))
    train_num_proposals = (2000, 1000)
    test_num_proposals = (1000, 1000)

    def __init__(self, backbone: keras.Model, config: DetectorConfig, **kwargs):
        super().__init__(config, **kwargs)
        warn_of_frozen(backbone)
        self.backbone = backbone
        self.levels = feature_network(backbone, "c2-c5")
        found = map_strides(self.levels)
        fitting = [strides for strides in _STRIDES if list(strides[:4]) == found]
        if not fitting:
            raise ValueError(
                f"`backbone` must have C2 to C5 at strides 4, 8, 16 and 32 or 16. Received: {backbone.name}, "
                f"at {', '.join(map(str, found))}."
            )
        self.strides = fitting[0]
        self.fpn = FPN(_CHANNELS, bn_momentum=config.bn_momentum, name="fpn")
        self.fpn.build({name: x.shape for name, x in self.levels.output.items()})
        self.box_head = _make_box_head(config)
        self._build_heads(
            map_channels=_CHANNELS,
            vector_size=_VECTOR_SIZE,
            mask_channels=_CHANNELS,
            num_mask_convolutions=4,
        )

    def feature_maps(self, images: Tensor, training: bool) -> list[Tensor]:
        """P2 to P6."""
        maps = self.fpn(self.levels(images, training=training), training=training)
        return [maps[f"p{level}"] for level in range(2, 7)]

    def box_features(self, maps: list[Tensor], boxes: Tensor, training: bool) -> Tensor:
        """Vectors `(B, R, 1024)`."""
        pooled = self._pool(maps, boxes, _BOX_POOL_SIZE)
        vectors = self.box_head(ops.reshape(pooled, (-1, *pooled.shape[2:])), training=training)
        return ops.reshape(vectors, (-1, boxes.shape[1], vectors.shape[-1]))

    def box_vectors(self, features: Tensor) -> Tensor:
        """The features themselves, `(B, R, 1024)`."""
        return features

    def mask_features(
        self, maps: list[Tensor], boxes: Tensor, features: Tensor | None = None
    ) -> Tensor:
        """Features `(B, P, 14, 14, C)`, pooled from the maps."""
        del features
        return self._pool(maps, boxes, _MASK_POOL_SIZE)

    def _pool(self, maps: list[Tensor], boxes: Tensor, size: int) -> Tensor:
        levels = assign_boxes_to_levels(boxes)
        strides = ops.take(ops.convert_to_tensor(self.strides[:4], "float32"), levels)
        return pyramid_roi_align(maps[:4], boxes / strides[..., None], levels, size)


def _make_box_head(config: DetectorConfig) -> keras.Model:
    """Four convolutions and a hidden layer: pooled boxes `(N, 7, 7, 256)` to vectors `(N, 1024)`."""
    inputs = x = keras.Input((_BOX_POOL_SIZE, _BOX_POOL_SIZE, _CHANNELS))
    for number in range(1, 5):
        x = Conv2D(
            _CHANNELS,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=he_normal_fan_out(),  # A shared one gives all layers the same kernel.
            name=f"conv{number}",
        )(x)
        x = keras.layers.ReLU(name=f"relu{number}")(config.batch_norm(f"bn{number}")(x))
    x = keras.layers.Dense(
        _VECTOR_SIZE,
        activation="relu",
        kernel_initializer=keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
        name="hidden",
    )(keras.layers.Flatten(name="flatten")(x))
    return keras.Model(inputs, x, name="box_head")


def assign_boxes_to_levels(boxes: Tensor) -> Tensor:
    """Map from which each box is pooled: `floor(4 + log2(sqrt(area) / 224))`, from P2 to P5.

    Args:
        boxes: `(B, R, 4)` in pixels.

    Returns:
        `(B, R)` int64: 0 is P2.
    """
    sides = ops.sqrt(box_area(boxes))
    levels = ops.floor(4 + ops.log(sides / _CANONICAL_BOX_SIZE + 1e-8) / ops.log(2.0))
    return ops.cast(ops.clip(levels, 2, 5), "int64") - 2
