"""Supervised pre-training: classification of whole images."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras.layers.heads import PooledMLP
from pixpro_keras.losses import instance
from pixpro_keras.methods import base
from pixpro_keras.methods.encoder import Encoder
from pixpro_keras.ops import feature_std
from pixpro_keras.types import LABEL, VIEW1, Batch, Tensor


class Supervised(base.PretrainMethod):
    """Softmax cross-entropy of a linear classifier on the averaged map of one view.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        num_classes: labels are in [0, num_classes).
        bn_momentum: accepted as in all methods; the classifier has no batch norm.
        synchronized: likewise.
        **kwargs: of `PretrainMethod`.

    Raises:
        ValueError: if there are less than two classes.

    Reference:
        He et al., CVPR 2016, arXiv:1512.03385.
    """

    loss_bounds = MappingProxyType({"classification": (0.0, None)})
    num_views = 1
    uses_labels = True

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bn_momentum: float = 0.9,
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        del bn_momentum, synchronized
        if num_classes < 2:
            raise ValueError(
                f"`num_classes` must be at least 2. Received: num_classes={num_classes}."
            )
        classifier = PooledMLP(num_classes, num_classes, num_layers=1, name="classifier")
        self.encoder = Encoder(backbone, {"logits": classifier}, name="encoder")

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `classification`; `top1`: share of images whose class is found."""
        outputs = self.encoder(batch[VIEW1], training=training)
        logits = ops.cast(outputs["logits"], "float32")
        return {
            "classification": instance.cross_entropy(logits, batch[LABEL]),
            "top1": instance.top1(logits, batch[LABEL]),
            "feature_std": feature_std(ops.mean(outputs["features"], axis=(1, 2))),
        }
