"""SimCLR: contrast of images within the batch."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras.layers.heads import PooledMLP
from pixpro_keras.losses.instance import nt_xent
from pixpro_keras.methods import base
from pixpro_keras.ops import cross_replica_concat, feature_std, replica_index
from pixpro_keras.types import VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils import checks

__all__ = ["SimCLR"]


@keras.saving.register_keras_serializable("pixpro_keras")
class SimCLR(base.PretrainMethod):
    """NT-Xent between the two views, against all other views of the global batch: `L = L_12 + L_21`.

    As in the authors' code the directions are added; `nt_xent` is their mean. LARS adapts kernels to
    any factor of the loss, but not the scales and offsets of batch norm.

    Both views go through the network as one batch, as in the authors' code: batch norm sees them
    together.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        temperature: tau, positive; 0.1 in the authors' ImageNet runs.
        hidden_dim: the projector's hidden channels; the authors' is as wide as C5.
        out_dim: the projector's output channels.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.
        **kwargs: arguments of `PretrainMethod`.

    Reference:
        Chen et al., ICML 2020, arXiv:2002.05709.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.SimCLR(backbones.build("resnet18_v1_5"), temperature=0.1, total_steps=100)
        ```
    """

    loss_bounds = MappingProxyType({"instance": (0.0, None)})
    has_target = False

    def __init__(
        self,
        backbone: keras.Model,
        temperature: float = 0.1,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        projector = PooledMLP(
            hidden_dim, out_dim, batch_norm="all", bn_momentum=bn_momentum, name="projector"
        )
        super().__init__(backbone, {"instance": projector}, bn_momentum=bn_momentum, **kwargs)
        self.temperature = checks.positive("temperature", temperature)
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `instance`; `instance_top1`: share of views whose other view is the most similar."""
        views = ops.concatenate([batch[VIEW1], batch[VIEW2]], axis=0)
        z1, z2 = ops.split(self.encoder(views, training=training)["instance"], 2, axis=0)
        loss, top1 = nt_xent(
            z1,
            z2,
            cross_replica_concat(z1),
            cross_replica_concat(z2),
            replica_index() * z1.shape[0],
            self.temperature,
        )
        return {"instance": 2.0 * loss, "instance_top1": top1, "feature_std": feature_std(z1)}

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "temperature": self.temperature,
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
        }
