"""PixPro: pixel-to-propagation consistency."""

from typing import ClassVar

import keras

from pixpro_keras.losses.pixel import pixel_consistency
from pixpro_keras.methods.pixel_method import PixelMethod

__all__ = ["PixPro"]


@keras.saving.register_keras_serializable("pixpro_keras")
class PixPro(PixelMethod):
    """Pixel-to-propagation consistency.

    `L = 2 * (-cos(y_i, x'_j) - cos(y_j, x'_i))`, mean over positive pairs, then over images. The
    PixPro release doubles each direction, so the loss lies in [-4, 4].

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        **kwargs: arguments of `PixelMethod`.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.2.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.PixPro(backbones.build("resnet18_v1_5"), hidden_dim=64, out_dim=16, total_steps=100)
        ```
    """

    pixel_bounds: ClassVar = (-4.0, 4.0)

    def one_way(self, prediction, target, positives):
        """Consistency of the propagated online pixels and the target's; see `PixelMethod`."""
        # The PixPro release doubles it.
        return 2.0 * pixel_consistency(prediction, target, positives)
