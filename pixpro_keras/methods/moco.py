"""MoCo, versions 1 and 2: contrast with a queue of earlier images."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras.layers.heads import PooledMLP
from pixpro_keras.layers.queue import Queue
from pixpro_keras.losses.instance import info_nce
from pixpro_keras.methods import base
from pixpro_keras.ops import cross_replica_concat, feature_std, l2_normalize
from pixpro_keras.types import VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils import checks

__all__ = ["MoCo"]


@keras.saving.register_keras_serializable("pixpro_keras")
class MoCo(base.PretrainMethod):
    """InfoNCE of view 1 against its view 2 by the momentum encoder, and the keys of earlier batches.

    The authors shuffle the keys' images over the GPUs, so that query and key are not normalized
    with the statistics of the same images, which would let the network identify the positive. Here
    batch norm is synchronized over the replicas instead: every image is normalized with the
    statistics of the whole batch, which do not identify the positive. (On one device neither has an
    effect.)

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        temperature: tau, positive; 0.07 in version 1, 0.2 in version 2.
        num_projector_layers: 1 (linear) in version 1, 2 in version 2. Projectors have no batch norm.
        hidden_dim: the projector's hidden channels, where it has any.
        out_dim: the projector's output channels.
        queue_size: keys in the queue, a multiple of the global batch.
        base_momentum: the key encoder's momentum, the same in all steps.
        **kwargs: arguments of `PretrainMethod`.

    Reference:
        He et al., CVPR 2020, arXiv:1911.05722; Chen et al., 2020, arXiv:2003.04297.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        backbone = backbones.build("resnet18_v1_5")
        method = methods.MoCo(backbone, temperature=0.2, queue_size=1024, total_steps=100)
        ```
    """

    loss_bounds = MappingProxyType({"instance": (0.0, None)})
    is_momentum_rising = False

    def __init__(
        self,
        backbone: keras.Model,
        temperature: float = 0.07,
        num_projector_layers: int = 1,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        queue_size: int = 65536,
        base_momentum: float = 0.999,
        **kwargs,
    ):
        heads = self.build_heads(hidden_dim, out_dim, num_projector_layers)
        super().__init__(backbone, heads, base_momentum=base_momentum, **kwargs)
        self.temperature = checks.positive("temperature", temperature)
        self.num_projector_layers = num_projector_layers
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.queue_size = queue_size
        self.queue = Queue(queue_size, out_dim, name="queue")

    @staticmethod
    def build_heads(
        hidden_dim: int, out_dim: int, num_layers: int
    ) -> dict[str, keras.layers.Layer]:
        """The projectors by name; both encoders have them."""
        return {"instance": PooledMLP(hidden_dim, out_dim, num_layers, name="projector")}

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `instance`; `instance_top1`: share of queries nearest to their own key."""
        online = self.encoder(batch[VIEW1], training=training)
        target = self.target_encoder(batch[VIEW2], training=training)
        return self.contrast(online, target, training)

    def contrast(
        self, online: dict[str, Tensor], target: dict[str, Tensor], training: bool
    ) -> dict[str, Tensor]:
        """Loss and metrics of the projected images; in training their keys enter the queue."""
        query, key = online["instance"], target["instance"]
        loss, top1 = info_nce(query, key, self.queue.read(), self.temperature)
        if training:
            enqueue(self.queue, key)
        return {"instance": loss, "instance_top1": top1, "feature_std": feature_std(query)}

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "temperature": self.temperature,
            "num_projector_layers": self.num_projector_layers,
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "queue_size": self.queue_size,
        }


def enqueue(queue: Queue, keys: Tensor) -> None:
    """Puts the unit-length keys of all replicas into a queue, which is the same on each of them."""
    keys = l2_normalize(ops.stop_gradient(keys))
    queue.enqueue(cross_replica_concat(keys))
