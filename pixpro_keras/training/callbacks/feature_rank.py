"""Rank of the features during a run: a measure without labels."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from pixpro_keras.ops import effective_rank
from pixpro_keras.training.callbacks.steps import steps_done
from pixpro_keras.types import Tensor
from pixpro_keras.utils.checks import at_least

_NUM_IMAGES = 64
_MOST_VECTORS = 1024


class FeatureRank(keras.callbacks.Callback):
    """Adds `feature_rank` to the logs at regular steps and at the end of an epoch.

    This is the effective rank (RankMe) of the backbone's last map over the cells of a few fixed
    images, in inference mode: at most the number of channels or of cells, whichever is less. It
    uses up to 64 images and 1024 of their cells, so its values are comparable between epochs, and between
    runs with the same backbone and view size. Put this callback before those that show the value.

    Args:
        get_images: function without arguments that returns images, `(B, H, W, 3)` in the backbone's input
            convention; called once, when they are needed.
        every_steps: steps between two values, at least 1.

    Example:
        ```python
        import keras
        from pixpro_keras import backbones, methods
        from pixpro_keras.training.callbacks import FeatureRank

        backbone = backbones.build("resnet18_v1_5")
        method = methods.PixPro(backbone, hidden_dim=16, out_dim=8, total_steps=10)
        rank = FeatureRank(lambda: keras.random.normal((4, 64, 64, 3)), every_steps=5)
        rank.set_model(method)
        logs = {"step": 5}
        rank.on_train_batch_end(4, logs)
        print(logs["feature_rank"])  # of 16 cells
        ```
    """

    def __init__(self, get_images: Callable[[], Tensor], every_steps: int):
        super().__init__()
        self._get_images = get_images
        self.every_steps = at_least("every_steps", every_steps, 1)
        self._images: Tensor | None = None
        self._newest: float | None = None

    def on_train_batch_end(self, batch, logs=None):
        """Computes the rank at the steps that are due."""
        if logs is None or steps_done(logs, self.model) % self.every_steps:
            return
        if self._images is None:
            self._images = tf.identity(self._get_images()[:_NUM_IMAGES])
        features = self.model.encoder.backbone(self._images, training=False)
        cells = tf.reshape(tf.cast(features, tf.float32), (-1, features.shape[-1]))
        cells = cells[:: -(-cells.shape[0] // _MOST_VECTORS)]
        is_finite = bool(tf.reduce_all(tf.math.is_finite(cells)))
        self._newest = float(effective_rank(cells)) if is_finite else math.nan
        logs["feature_rank"] = self._newest

    def on_epoch_end(self, epoch, logs=None):
        """Adds the newest value to the epoch's logs."""
        if logs is not None and self._newest is not None:
            logs["feature_rank"] = self._newest
