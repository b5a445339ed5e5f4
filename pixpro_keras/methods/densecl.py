"""DenseCL: contrast of cells, matched by their backbone features."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras.layers.heads import PointwiseMLP, PooledMLP
from pixpro_keras.layers.queue import Queue
from pixpro_keras.losses.dense import dense_info_nce, match_cells, take_rows
from pixpro_keras.methods.moco import MoCo, enqueue
from pixpro_keras.ops import to_pixels
from pixpro_keras.types import VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.utils import checks

__all__ = ["DenseCL"]


@keras.saving.register_keras_serializable("pixpro_keras")
class DenseCL(MoCo):
    """MoCo v2 and, with the same encoders, InfoNCE of each cell and its most similar one.

    `L = (1 - dense_weight) L_image + dense_weight L_dense`. A cell's positive is the cell of the other
    view with the most similar backbone feature; its negatives are a second queue, of dense keys
    averaged over their image.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        dense_weight: share of the dense loss, in [0, 1]; 0.5 in the paper.
        temperature: tau of both losses, positive.
        num_projector_layers: layers of the image's projector.
        hidden_dim: hidden channels of both projectors.
        out_dim: output channels of both.
        queue_size: keys in each queue, a multiple of the global batch.
        **kwargs: arguments of `MoCo`.

    Reference:
        Wang et al., CVPR 2021, arXiv:2011.09157.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.DenseCL(backbones.build("resnet18_v1_5"), queue_size=1024, total_steps=100)
        ```
    """

    loss_bounds = MappingProxyType({"instance": (0.0, None), "dense": (0.0, None)})

    def __init__(
        self,
        backbone: keras.Model,
        dense_weight: float = 0.5,
        temperature: float = 0.2,
        num_projector_layers: int = 2,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        queue_size: int = 65536,
        **kwargs,
    ):
        checks.in_range("dense_weight", dense_weight, 0, 1)
        super().__init__(
            backbone,
            temperature=temperature,
            num_projector_layers=num_projector_layers,
            hidden_dim=hidden_dim,
            out_dim=out_dim,
            queue_size=queue_size,
            **kwargs,
        )
        self.dense_weight = dense_weight
        self.dense_queue = Queue(queue_size, out_dim, seed=1, name="dense_queue")

    @staticmethod
    def build_heads(
        hidden_dim: int, out_dim: int, num_layers: int
    ) -> dict[str, keras.layers.Layer]:
        """The image's projector and the cells', initialized as the authors' code does."""
        image = PooledMLP(hidden_dim, out_dim, num_layers, initialization="he", name="projector")
        cells = PointwiseMLP(hidden_dim, out_dim, use_batch_norm=False, name="dense_projector")
        return {"instance": image, "dense": cells}

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss terms `instance` and `dense`; top-1 accuracy of images and cells among the negatives."""
        online = self.encoder(batch[VIEW1], training=training)
        target = self.target_encoder(batch[VIEW2], training=training)
        outputs = self.contrast(online, target, training)
        queries, keys = to_pixels(online["dense"]), to_pixels(target["dense"])
        matches = match_cells(to_pixels(online["features"]), to_pixels(target["features"]))
        dense_loss, dense_top1 = dense_info_nce(
            queries, take_rows(keys, matches), self.dense_queue.read(), self.temperature
        )
        if training:
            enqueue(self.dense_queue, ops.mean(ops.cast(keys, "float32"), axis=1))
        return outputs | {
            "instance": (1 - self.dense_weight) * outputs["instance"],
            "dense": self.dense_weight * dense_loss,
            "dense_top1": dense_top1,
        }

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {"dense_weight": self.dense_weight}
