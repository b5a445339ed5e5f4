"""A backbone with named heads."""

import keras

from pixpro_keras.backbones.data_format import require_channels_last
from pixpro_keras.backbones.levels import pyramid_network, require_feature_map
from pixpro_keras.backbones.remat import Remat
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.types import Tensor

__all__ = ["Encoder"]


@keras.saving.register_keras_serializable("pixpro_keras")
class Encoder(keras.Model):
    """`images -> {"features": C5 map, head name: head(C5 map)}`.

    With an FPN, of C3 to C5, its heads are on P3 to P6: `{head name: {"p3": head(P3), ...}}`. Level heads
    are on the backbone's own maps: `{head name: {"c4": head(C4), ...}}`. It is built when constructed
    and rebuilds from its config, so a target encoder is a copy of it.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        heads: layers on the backbone's map, by name.
        fpn: feature pyramid on C3 to C5.
        pyramid_heads: layers on each of the FPN's maps, by name; the levels share their weights.
        level_heads: layers by name and level, `"c3"` to `"c5"`, each with weights of its own.

    Raises:
        ValueError: if the model is not a backbone; see `backbones.require_feature_map`.
        DataFormatError: if Keras's image data format is channels_first.

    Example:
        ```python
        import keras
        from pixpro_keras import backbones, layers, methods

        backbone = backbones.build("resnet18_v1_5")
        encoder = methods.Encoder(backbone, {"pixel": layers.PointwiseMLP(64, 16)})
        print(encoder(keras.ops.zeros((1, 64, 64, 3)))["pixel"].shape)  # (1, 2, 2, 16)
        ```
    """

    def __init__(
        self,
        backbone: keras.Model,
        heads: dict[str, keras.layers.Layer],
        fpn: FPN | None = None,
        pyramid_heads: dict[str, keras.layers.Layer] | None = None,
        level_heads: dict[str, dict[str, keras.layers.Layer]] | None = None,
        **kwargs,
    ):
        require_channels_last()
        require_feature_map(backbone, channels=None)
        super().__init__(**kwargs)
        self.backbone = backbone
        self.heads = heads
        self.fpn = fpn
        self.pyramid_heads = pyramid_heads or {}
        self.level_heads = level_heads or {}
        for head in heads.values():
            if not head.built:
                head.build(backbone.output_shape)
        self._levels: keras.Model | None = None
        if fpn is not None or level_heads:
            levels = [level for of_levels in self.level_heads.values() for level in of_levels]
            lowest = 3 if fpn is not None else min(int(level[1:]) for level in levels)
            self._levels = pyramid_network(backbone, lowest)
        outputs = {} if self._levels is None else self._levels.output
        shapes = {name: tuple(x.shape) for name, x in outputs.items()}
        for of_levels in self.level_heads.values():
            for level, head in of_levels.items():
                if not head.built:
                    head.build(shapes[level])
        if fpn is not None:
            if not fpn.built:
                fpn.build(shapes)
            for head in self.pyramid_heads.values():
                if not head.built:
                    head.build((None, None, None, fpn.num_channels))
        self.built = True
        self._recomputed: Remat | None = None

    def recompute_backbone(self) -> None:
        """Makes the backward pass recompute the backbone's activations instead of storing them.

        Raises:
            ValueError: if there is an FPN or a level head, or the backbone cannot be recomputed; see
                `Remat`.
        """
        if self._levels is not None:
            raise ValueError("a backbone with outputs besides C5 cannot be recomputed")
        self._recomputed = Remat(self.backbone)

    def call(self, images: Tensor, training: bool = False) -> dict:
        """Maps of `(B, h, w, C)` by name."""
        if self._levels is None:
            backbone = self._recomputed or self.backbone
            features = backbone(images, training=training)
            outputs = {"features": features}
        else:
            levels = self._levels(images, training=training)
            features = levels["c5"]
            outputs = {"features": features}
            if self.fpn is not None:
                pyramid = self.fpn(levels, training=training)
                outputs |= {
                    name: {level: head(x, training=training) for level, x in pyramid.items()}
                    for name, head in self.pyramid_heads.items()
                }
            outputs |= {
                name: {level: head(levels[level], training=training) for level, head in of.items()}
                for name, of in self.level_heads.items()
            }
        for name, head in self.heads.items():
            outputs[name] = head(features, training=training)
        return outputs

    def get_config(self) -> dict:
        """Constructor arguments, serialized."""

        def serialized(layers: dict[str, keras.layers.Layer]) -> dict:
            serialize = keras.saving.serialize_keras_object
            return {name: serialize(layer) for name, layer in layers.items()}

        networks = {"backbone": self.backbone}
        if self.fpn is not None:
            networks["fpn"] = self.fpn
        return (
            super().get_config()
            | serialized(networks)
            | {"heads": serialized(self.heads), "pyramid_heads": serialized(self.pyramid_heads)}
            | {"level_heads": {name: serialized(x) for name, x in self.level_heads.items()}}
        )

    @classmethod
    def from_config(cls, config: dict) -> "Encoder":
        """A new encoder of the same architecture, with weights of its own."""
        deserialize = keras.saving.deserialize_keras_object
        config = dict(config)
        for name in ("backbone", "fpn"):
            if name in config:
                config[name] = deserialize(config[name])
        for group in ("heads", "pyramid_heads"):
            config[group] = {name: deserialize(head) for name, head in config[group].items()}
        config["level_heads"] = {
            name: {level: deserialize(head) for level, head in of.items()}
            for name, of in config.get("level_heads", {}).items()
        }
        return cls(**config)
