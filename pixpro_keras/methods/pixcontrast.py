"""PixContrast: pixel-level contrast, PixPro's sibling."""

from typing import ClassVar

import keras
from keras import ops

from pixpro_keras.losses.pixel import pixel_contrast
from pixpro_keras.methods.pixel_method import PixelMethod
from pixpro_keras.ops import cross_replica_concat, replica_index
from pixpro_keras.utils import checks

__all__ = ["NEGATIVES", "PixContrast"]

NEGATIVES = ("image", "batch", "other_images")


@keras.saving.register_keras_serializable("pixpro_keras")
class PixContrast(PixelMethod):
    """Pixel-level InfoNCE between online and target features, mean of both directions.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        temperature: tau, positive; the paper's best is 0.3.
        use_propagation: whether to use the pixel propagation module; the paper's PixContrast does
            not.
        negatives: `"image"`: the pixels of the same image's other view, as in the paper. `"batch"`:
            those of all images of the global batch. `"other_images"`: the same without the image's own.
            The last two are not in the paper.
        **kwargs: arguments of `PixelMethod`.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.1.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.PixContrast(backbones.build("resnet18_v1_5"), temperature=0.3, total_steps=100)
        ```
    """

    pixel_bounds: ClassVar = (0.0, None)

    def __init__(
        self,
        backbone: keras.Model,
        temperature: float = 0.3,
        use_propagation: bool = False,
        negatives: str = "image",
        **kwargs,
    ):
        checks.one_of("negatives", negatives, NEGATIVES)
        super().__init__(backbone, use_propagation=use_propagation, **kwargs)
        self.temperature = checks.positive("temperature", temperature)
        self.negatives = negatives

    def one_way(self, prediction, target, positives):
        """InfoNCE of the online pixels among the target's; see `PixelMethod`."""
        candidates = image_ids = None
        if self.negatives != "image":
            batch_size, num_pixels, channels = target.shape
            keys = ops.stop_gradient(ops.reshape(target, (-1, channels)))
            candidates = cross_replica_concat(keys)
        if self.negatives == "other_images":
            ids = replica_index() * batch_size + ops.arange(batch_size)
            image_ids = ids, ops.arange(candidates.shape[0]) // num_pixels
        loss = pixel_contrast(
            prediction, target, positives, self.temperature, candidates, image_ids
        )
        return loss / 2  # The paper takes the mean of both directions.

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "temperature": self.temperature,
            "negatives": self.negatives,
        }
