"""PixContrast: pixel-level contrast, PixPro's sibling."""

from typing import ClassVar

from keras import ops

from pixpro_keras.losses import pixel
from pixpro_keras.methods.pixel_method import PixelMethod
from pixpro_keras.utils import checks


class PixContrast(PixelMethod):
    """Pixel-level InfoNCE between online and target features, mean of both directions.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        temperature: tau, positive; the paper's best is 0.3.
        use_propagation: whether the PPM stands before the loss; off in the paper's PixContrast.
        **kwargs: of `PixelMethod`.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.1.
    """

    pixel_bounds: ClassVar = (0.0, None)

    def __init__(self, backbone, temperature: float = 0.3, use_propagation: bool = False, **kwargs):
        super().__init__(backbone, use_propagation=use_propagation, **kwargs)
        self.temperature = checks.positive("temperature", temperature)

    def pixel_losses(self, prediction, target, positives):
        """See `PixelMethod.pixel_losses`; half of each pixel's InfoNCE."""
        losses = pixel.contrast_of_pixels(prediction, target, positives, self.temperature)
        return losses / 2, ops.max(positives, axis=2)
