"""Augmentation recipes: what happens to each of the two views after its crop."""

import dataclasses

import tensorflow as tf

from pixpro_keras.batch import Tensor
from pixpro_keras.data import photometric


@dataclasses.dataclass(frozen=True)
class ViewRecipe:
    """Probabilities and strengths of one view, applied in this order.

    Attributes:
        flip: probability of a mirrored view.
        jitter: probability of colour jitter.
        jitter_strengths: brightness, contrast, saturation, hue.
        grayscale: probability of losing all colour.
        blur: probability of Gaussian blur.
        blur_sigma: smallest and largest standard deviation in pixels.
        solarize: probability of inverting the values from 128 on.
    """

    flip: float = 0.5
    jitter: float = 0.8
    jitter_strengths: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    grayscale: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0


# Name -> recipes of view 1 and view 2.
RECIPES: dict[str, tuple[ViewRecipe, ViewRecipe]] = {
    "byol": (ViewRecipe(blur=1.0), ViewRecipe(blur=0.1, solarize=0.2)),
    "mocov2": (ViewRecipe(jitter_strengths=(0.4, 0.4, 0.4, 0.1)),) * 2,
    "simclr": (ViewRecipe(jitter_strengths=(0.8, 0.8, 0.8, 0.2)),) * 2,
}


def apply_photometric(image: Tensor, seed: Tensor, recipe: ViewRecipe) -> Tensor:
    """Colour, blur and solarisation of one view.

    Args:
        image: `(H, W, 3)` float32 in 0..255, of static shape.
        seed: `(2,)` integers.
        recipe: what to do.

    Returns:
        The same shape and range.
    """
    jitter_seed, draw_seed = tf.unstack(tf.random.split(seed, 2))
    draws = tf.random.stateless_uniform((5,), draw_seed)

    def maybe(probability, draw, change, image):
        if probability <= 0:
            return image
        if probability >= 1:
            return change(image)
        # What is not applied is not computed.
        return tf.cond(draw < probability, lambda: change(image), lambda: image)

    low, high = recipe.blur_sigma
    sigma = low + (high - low) * draws[4]
    image = maybe(
        recipe.jitter,
        draws[0],
        lambda x: photometric.color_jitter(x, jitter_seed, recipe.jitter_strengths),
        image,
    )
    image = maybe(
        recipe.grayscale,
        draws[1],
        lambda x: tf.repeat(photometric.to_grayscale(x), 3, axis=-1),
        image,
    )
    image = maybe(
        recipe.blur, draws[2], lambda x: photometric.gaussian_blur(x, sigma, high), image
    )
    return maybe(recipe.solarize, draws[3], photometric.solarize, image)
