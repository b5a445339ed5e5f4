"""InfoMin: MoCo with a jigsaw puzzle for a second query."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras.layers.heads import PooledMLP
from pixpro_keras.losses.instance import info_nce
from pixpro_keras.methods.moco import MoCo
from pixpro_keras.types import JIGSAW, VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils import checks

__all__ = ["InfoMin"]

_NUM_PATCHES = 9


@keras.saving.register_keras_serializable("pixpro_keras")
class InfoMin(MoCo):
    """InfoNCE of view 1, and of the patches of a puzzle, against view 2 and the queue.

    `L = (1 - jigsaw_weight) L(view 1) + jigsaw_weight L(puzzle)`, both with the same key and queue.
    Each patch goes through the online backbone and a projector of its own; the nine projections, in
    random order, are joined and mapped to one query.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        jigsaw_weight: beta, in [0, 1]; 0.5 in the authors' code.
        temperature: tau, positive; 0.15 in the authors' code.
        num_projector_layers: layers of both projectors.
        hidden_dim: hidden channels of both.
        out_dim: output channels of both, and of the puzzle's query.
        **kwargs: arguments of `MoCo`.

    Raises:
        ValueError: if `jigsaw_weight` is not in [0, 1].

    Reference:
        Tian et al., NeurIPS 2020, arXiv:2005.10243, as in the authors' PyContrast.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.InfoMin(backbones.build("resnet18_v1_5"), queue_size=1024, total_steps=100)
        ```
    """

    loss_bounds = MappingProxyType({"instance": (0.0, None), "jigsaw": (0.0, None)})
    uses_jigsaw = True

    def __init__(
        self,
        backbone: keras.Model,
        jigsaw_weight: float = 0.5,
        temperature: float = 0.15,
        num_projector_layers: int = 2,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        **kwargs,
    ):
        checks.in_range("jigsaw_weight", jigsaw_weight, 0, 1)
        super().__init__(
            backbone,
            temperature=temperature,
            num_projector_layers=num_projector_layers,
            hidden_dim=hidden_dim,
            out_dim=out_dim,
            **kwargs,
        )
        self.jigsaw_weight = jigsaw_weight
        # The momentum encoder never sees a puzzle, so these are not part of the encoder.
        self.patch_projector = PooledMLP(
            hidden_dim, out_dim, num_projector_layers, name="patch_projector"
        )
        self.patch_projector.build(backbone.output_shape)
        self.joint_projector = PooledMLP(out_dim, out_dim, 1, name="joint_projector")
        self.joint_projector.build((None, _NUM_PATCHES * out_dim))

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `instance` and `jigsaw`; top-1 accuracy of each against the queue."""
        online = self.encoder(batch[VIEW1], training=training)
        target = self.target_encoder(batch[VIEW2], training=training)
        patches = batch[JIGSAW]
        patches = ops.reshape(patches, (-1, *patches.shape[2:]))  # (B * 9, P, P, 3)
        projected = self.patch_projector(self.encoder.backbone(patches, training=training))
        joined = ops.reshape(projected, (-1, _NUM_PATCHES * projected.shape[-1]))
        jigsaw_loss, jigsaw_top1 = info_nce(
            self.joint_projector(joined), target["instance"], self.queue.read(), self.temperature
        )
        outputs = self.contrast(online, target, training)
        return outputs | {
            "instance": (1 - self.jigsaw_weight) * outputs["instance"],
            "jigsaw": self.jigsaw_weight * jigsaw_loss,
            "jigsaw_top1": jigsaw_top1,
        }

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {"jigsaw_weight": self.jigsaw_weight}
