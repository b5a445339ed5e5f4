"""PixPro: pixel-to-propagation consistency."""

from typing import ClassVar

from keras import ops

from pixpro_keras.losses import pixel
from pixpro_keras.methods.pixel_method import PixelMethod


class PixPro(PixelMethod):
    """Pixel-to-propagation consistency.

    `L = 2 * (-cos(y_i, x'_j) - cos(y_j, x'_i))`, mean over positive pairs, then over images. The
    release doubles each direction, so the loss lies in [-4, 4].

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.2.
    """

    pixel_bounds: ClassVar = (-4.0, 4.0)

    def pixel_losses(self, prediction, target, positives):
        """See `PixelMethod.pixel_losses`; `-2 cos` of each positive pair."""
        matched = pixel.matched_cosines(prediction, target, positives)
        return -2.0 * matched, ops.sum(positives, axis=2)
