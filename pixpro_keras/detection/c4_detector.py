"""Detectors on C4, with the backbone's last stage as their head."""

import keras
from keras import ops

from pixpro_keras.backbones.frozen import warn_of_frozen
from pixpro_keras.backbones.levels import pyramid_network
from pixpro_keras.detection.detector import Detector, DetectorConfig
from pixpro_keras.layers.roi_align import roi_align
from pixpro_keras.types import Tensor

_STRIDE = 16
_POOL_SIZE = 14


@keras.saving.register_keras_serializable("pixpro_keras")
class C4Detector(Detector):
    """Two-stage detector on C4: its head is the last stage and a batch norm, on 14 x 14 cells per box.

    Args:
        backbone: functional model whose C5 is computed from its C4 alone, as in every ResNet.
        config: sizes.
        **kwargs: arguments of `Task`.

    Raises:
        ValueError: if the backbone cannot be cut at C4.

    Reference:
        detectron2's Res5ROIHeads, with the extra norm of MoCo's transfer protocol.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.detection import C4Detector, DetectorConfig

        inputs = x = keras.Input((None, None, 3))
        for _ in range(5):  # C1 to C5
            x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
        task = C4Detector(keras.Model(inputs, x), DetectorConfig(num_classes=2))
        images, sizes = np.zeros((1, 64, 64, 3), "float32"), np.array([[64.0, 64.0]], "float32")
        print(task.detect(images, sizes)["boxes"].shape)
        ```
    """

    strides = (_STRIDE,)
    anchor_sizes = ((32, 64, 128, 256, 512),)
    train_num_proposals = (12000, 2000)
    test_num_proposals = (6000, 1000)

    def __init__(self, backbone: keras.Model, config: DetectorConfig, **kwargs):
        super().__init__(config, **kwargs)
        levels = pyramid_network(backbone, lowest=4).output
        warn_of_frozen(backbone)
        self.backbone = backbone
        self.stem = keras.Model(backbone.input, levels["c4"], name="stem")
        try:
            self.last_stage = keras.Model(levels["c4"], levels["c5"], name="last_stage")
        except ValueError as error:
            raise ValueError(f"{backbone.name} cannot be cut at C4: {error}") from error
        channels = backbone.output_shape[-1]
        self.extra_norm = config.batch_norm("extra_norm")
        self.extra_norm.build((None, None, None, channels))
        self._build_heads(
            map_channels=levels["c4"].shape[-1],
            vector_size=channels,
            mask_channels=channels,
            num_mask_convolutions=0,
        )

    def feature_maps(self, images: Tensor, training: bool) -> list[Tensor]:
        """C4."""
        return [self.stem(images, training=training)]

    def box_features(self, maps: list[Tensor], boxes: Tensor, training: bool) -> Tensor:
        """Features `(B, R, 7, 7, C)`."""
        num_boxes = boxes.shape[1]
        pooled = roi_align(maps[0], boxes / _STRIDE, _POOL_SIZE)
        pooled = ops.reshape(pooled, (-1, *pooled.shape[2:]))
        features = self.last_stage(pooled, training=training)
        features = self.extra_norm(features, training=training)
        return ops.reshape(features, (-1, num_boxes, *features.shape[1:]))

    def box_vectors(self, features: Tensor) -> Tensor:
        """Means `(B, R, C)` of the features."""
        return ops.mean(features, axis=(2, 3))

    def mask_features(
        self, maps: list[Tensor], boxes: Tensor, features: Tensor | None = None
    ) -> Tensor:
        """Features `(B, P, 7, 7, C)`, those of the boxes."""
        return self.box_features(maps, boxes, training=False) if features is None else features
