"""PixContrast: pixel-level contrast, PixPro's sibling."""

from typing import ClassVar

from pixpro_keras import checks
from pixpro_keras.losses import pixel
from pixpro_keras.methods.pixel_method import PixelMethod


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

    def pixel_loss(self, prediction, target, positives):
        """See `PixelMethod.pixel_loss`."""
        return pixel.pixel_contrast(prediction, target, positives, self.temperature) / 2
