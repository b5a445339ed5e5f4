"""A backbone with named heads."""

import keras

from pixpro_keras.batch import Tensor


@keras.saving.register_keras_serializable("pixpro_keras")
class Encoder(keras.Model):
    """`images -> {"features": C5 map, head name: head(C5 map)}`.

    It is built when constructed and rebuilds from its config, so a target encoder is a copy of it.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        heads: layers on the backbone's map, by name.
    """

    def __init__(self, backbone: keras.Model, heads: dict[str, keras.layers.Layer], **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.heads = heads
        for head in heads.values():
            if not head.built:
                head.build(backbone.output_shape)
        self.built = True

    def call(self, images: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Maps of `(B, h, w, C)` by name."""
        features = self.backbone(images, training=training)
        outputs = {"features": features}
        for name, head in self.heads.items():
            outputs[name] = head(features, training=training)
        return outputs

    def get_config(self) -> dict:
        """Constructor arguments, serialised."""
        return super().get_config() | {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "heads": {
                name: keras.saving.serialize_keras_object(head) for name, head in self.heads.items()
            },
        }

    @classmethod
    def from_config(cls, config: dict) -> "Encoder":
        """A new encoder of the same architecture, with weights of its own."""
        config = dict(config)
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        heads = {
            name: keras.saving.deserialize_keras_object(head)
            for name, head in config.pop("heads").items()
        }
        return cls(backbone, heads, **config)
