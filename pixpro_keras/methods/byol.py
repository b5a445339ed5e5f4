"""BYOL: prediction of the target's view, without negatives."""

from types import MappingProxyType

import keras

from pixpro_keras.layers.heads import PooledMLP
from pixpro_keras.losses.instance import negative_cosine
from pixpro_keras.methods import base
from pixpro_keras.ops import feature_std
from pixpro_keras.types import VIEW1, VIEW2, Batch, Tensor

__all__ = ["BYOL"]


@keras.saving.register_keras_serializable("pixpro_keras")
class BYOL(base.PretrainMethod):
    """Prediction of the target's vector of the other view, without negatives.

    `L = 4 - 2 cos(p(z1), z'2) - 2 cos(p(z2), z'1)`, mean over images, in [0, 8].

    Two things differ from the authors' code. Here the target is updated at the beginning of a step, as in
    all methods of this package, with the momentum of this step; in the authors' code it is updated at the
    end of the step before, with the momentum of that step. Here the target starts as a copy of the
    encoder; in the authors' code it starts with random weights of its own.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        hidden_dim: hidden channels of projector and predictor.
        out_dim: output channels of both.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step.
        **kwargs: arguments of `PretrainMethod`.

    Reference:
        Grill et al., NeurIPS 2020, arXiv:2006.07733.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.BYOL(backbones.build("resnet18_v1_5"), hidden_dim=64, out_dim=16, total_steps=100)
        ```
    """

    loss_bounds = MappingProxyType({"instance": (0.0, 8.0)})

    def __init__(
        self,
        backbone: keras.Model,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        projector, predictor = (
            PooledMLP(hidden_dim, out_dim, batch_norm="hidden", bn_momentum=bn_momentum, name=name)
            for name in ("projector", "predictor")
        )
        super().__init__(backbone, {"instance": projector}, bn_momentum=bn_momentum, **kwargs)
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.predictor = predictor
        self.predictor.build((None, out_dim))

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `instance`; `instance_cosine` between prediction and target."""
        views = batch[VIEW1], batch[VIEW2]
        z1, z2 = (self.encoder(view, training=training)["instance"] for view in views)
        t1, t2 = (self.target_encoder(view, training=training)["instance"] for view in views)
        loss_12 = negative_cosine(self.predictor(z1, training=training), t2)
        loss_21 = negative_cosine(self.predictor(z2, training=training), t1)
        return {
            "instance": 4.0 + 2.0 * (loss_12 + loss_21),
            "instance_cosine": -(loss_12 + loss_21) / 2,
            "feature_std": feature_std(z1),
        }

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {"hidden_dim": self.hidden_dim, "out_dim": self.out_dim}
