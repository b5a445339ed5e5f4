"""Parts that all pre-training methods share: encoder, target encoder and its moving average."""

from typing import Any

import keras
import tensorflow as tf
from absl import logging
from keras import ops

from pixpro_keras.backbones.frozen import require_trainable, warn_of_frozen
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.methods import ema
from pixpro_keras.methods.encoder import Encoder
from pixpro_keras.ops import check_shape
from pixpro_keras.task import Task
from pixpro_keras.types import (
    COORD1,
    COORD2,
    JIGSAW,
    LABEL,
    LOCAL_COORDS,
    LOCAL_VIEWS,
    VIEW1,
    VIEW2,
    Batch,
    Tensor,
)
from pixpro_keras.utils import checks

__all__ = ["PretrainMethod"]


class PretrainMethod(Task):
    """A pre-training method: an encoder, loss terms and, where it has one, a moving-average target.

    A subclass passes the encoder's heads to this class and adds whatever else its loss needs. Its
    config contains its arguments and its backbone.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`. Its regularizers have no effect.
        heads: layers on the backbone's map, by name.
        fpn: feature pyramid on C3 to C5, where the method has one.
        pyramid_heads: layers on each of the FPN's maps, by name.
        level_heads: layers on the backbone's own maps, by name and level.
        total_steps: optimizer steps of the whole run, for the target's momentum; at least 1.
        base_momentum: the target's momentum in the first step, in [0, 1]; it rises to 1, so that after
            `total_steps` the target stays as it is, or is constant where a class sets
            `is_momentum_rising` to False.
        has_target: whether there is a target encoder; default: as the class says.
        bn_momentum: fraction of batch norm's moving statistics that is kept in each step, in [0, 1].
        **kwargs: arguments of `Task`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        ```python
        import keras
        from pixpro_keras import backbones, layers, losses, methods

        class Agreement(methods.PretrainMethod):
            loss_bounds = {"instance": (-1.0, 1.0)}

            def __init__(self, backbone, **kwargs):
                super().__init__(backbone, {"instance": layers.PooledMLP(64, 16)}, **kwargs)

            def call(self, batch, training=False):
                online = self.encoder(batch["view1"], training=training)["instance"]
                target = self.target_encoder(batch["view2"], training=training)["instance"]
                return {"instance": losses.negative_cosine(online, target)}

        method = Agreement(backbones.build("resnet18_v1_5"), total_steps=100)
        ```
    """

    encoder: Encoder
    target_encoder: Encoder
    # Whether there is a target encoder, and whether its momentum rises to 1.
    has_target = True
    is_momentum_rising = True
    # Keys that a batch must have.
    num_views = 2
    uses_jigsaw = False
    uses_labels = False
    uses_coordinates = False
    # Whether local views in a batch are used.
    uses_local_views = False

    def __init__(
        self,
        backbone: keras.Model,
        heads: dict[str, keras.layers.Layer],
        fpn: FPN | None = None,
        pyramid_heads: dict[str, keras.layers.Layer] | None = None,
        level_heads: dict[str, dict[str, keras.layers.Layer]] | None = None,
        *,
        total_steps: int,
        base_momentum: float = 0.99,
        bn_momentum: float = 0.9,
        has_target: bool | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if has_target is not None:
            self.has_target = has_target
        self.total_steps = checks.at_least("total_steps", total_steps, 1)
        self.base_momentum = checks.in_range("base_momentum", base_momentum, 0, 1)
        self.bn_momentum = checks.in_range("bn_momentum", bn_momentum, 0, 1)
        self.encoder = Encoder(backbone, heads, fpn, pyramid_heads, level_heads, name="encoder")
        if self.has_target:
            self.target_encoder = ema.make_target(self.encoder)
        warn_of_frozen(backbone)
        _warn_of_regularizers(backbone)
        _warn_of_local_norms(backbone)

    def check_batch(self, batch: Batch) -> None:
        """Raises a ValueError for a frozen backbone, missing keys, and corners or labels of another shape."""
        super().check_batch(batch)
        require_trainable(self.encoder.backbone)
        corners = (COORD1, COORD2)[: self.num_views] if self.uses_coordinates else ()
        keys = [*(VIEW1, VIEW2)[: self.num_views], *corners]
        if self.uses_jigsaw:
            keys.append(JIGSAW)
        if self.uses_labels:
            keys.append(LABEL)
        has_local_views = self.uses_local_views and LOCAL_VIEWS in batch
        if has_local_views:
            keys += [LOCAL_VIEWS, LOCAL_COORDS]
        self.require_keys(batch, *keys)
        for key in corners:
            check_shape(key, batch[key], (None, 4), "(B, 4): x1, y1, x2, y2 of each crop")
        if has_local_views:
            coords = batch[LOCAL_COORDS]
            check_shape(LOCAL_COORDS, coords, (None, None, 4), "(B, K, 4), for K local views")
        if self.uses_labels:
            check_shape(LABEL, batch[LABEL], (None,), "(B,): the class of each image, an integer")

    def before_step(self, step: Tensor) -> dict[str, Tensor]:
        """Updates the target before its forward pass, as in the PixPro release."""
        if not self.has_target:
            return {}
        if self.is_momentum_rising:
            one_minus_momentum = ema.one_minus_momentum(step, self.total_steps, self.base_momentum)
        else:
            with tf.control_dependencies([step]):
                one_minus_momentum = ops.cast(1.0 - self.base_momentum, "float32")
        ema.update(self.encoder, self.target_encoder, one_minus_momentum)
        return {"target_momentum": 1.0 - one_minus_momentum}

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "backbone": keras.saving.serialize_keras_object(self.encoder.backbone),
            "total_steps": self.total_steps,
            "base_momentum": self.base_momentum,
            "bn_momentum": self.bn_momentum,
        }


def _warn_of_regularizers(backbone: keras.Model) -> None:
    regularized = [v.path for v in backbone.trainable_variables if v.regularizer is not None]
    regularized += [
        x.path for x in backbone._flatten_layers() if x.activity_regularizer is not None
    ]
    if regularized:
        logging.warning(
            "The regularizers of %s, such as that of %s, have no effect: weight decay is the optimizer's.",
            backbone.name,
            regularized[0],
        )


def _warn_of_local_norms(backbone: keras.Model) -> None:
    local = [
        layer.path
        for layer in backbone._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and not layer.synchronized
    ]
    if local and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        logging.warning(
            "Batch norms of %s, such as %s, normalize with the statistics of one replica each; "
            "synchronized=True takes those of all replicas.",
            backbone.name,
            local[0],
        )
