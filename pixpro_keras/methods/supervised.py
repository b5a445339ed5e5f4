"""Supervised pre-training: classification of whole images."""

from types import MappingProxyType

import keras
from keras import ops

from pixpro_keras.layers.heads import PooledMLP
from pixpro_keras.losses.instance import cross_entropy, top1
from pixpro_keras.methods import base
from pixpro_keras.ops import feature_std
from pixpro_keras.types import LABEL, VIEW1, Batch, Tensor
from pixpro_keras.utils import checks

__all__ = ["Supervised"]


@keras.saving.register_keras_serializable("pixpro_keras")
class Supervised(base.PretrainMethod):
    """Softmax cross-entropy of a linear classifier on the averaged map of one view.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        num_classes: labels are in [0, num_classes).
        **kwargs: arguments of `PretrainMethod`. The classifier has no batch norm.

    Raises:
        ValueError: if there are less than two classes.

    Reference:
        He et al., CVPR 2016, arXiv:1512.03385.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.Supervised(backbones.build("resnet18_v1_5"), num_classes=10, total_steps=100)
        ```
    """

    loss_bounds = MappingProxyType({"classification": (0.0, None)})
    has_target = False
    num_views = 1
    uses_labels = True

    def __init__(self, backbone: keras.Model, num_classes: int, **kwargs):
        checks.at_least("num_classes", num_classes, 2)
        classifier = PooledMLP(num_classes, num_classes, num_layers=1, name="classifier")
        super().__init__(backbone, {"logits": classifier}, **kwargs)
        self.num_classes = num_classes

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `classification`; `top1`: share of images whose class is found."""
        outputs = self.encoder(batch[VIEW1], training=training)
        logits = ops.cast(outputs["logits"], "float32")
        return {
            "classification": cross_entropy(logits, batch[LABEL]),
            "top1": top1(logits, batch[LABEL]),
            "feature_std": feature_std(ops.mean(outputs["features"], axis=(1, 2))),
        }

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {"num_classes": self.num_classes}
