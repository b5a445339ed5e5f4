"""Augmentation recipes: what happens to each of the two views after its crop."""

import dataclasses
from collections.abc import Callable

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


def apply_photometric(
    image: Tensor, seed: Tensor, recipe: ViewRecipe, use_xla: bool = True
) -> Tensor:
    """Colour, blur and solarisation of one view.

    Args:
        image: `(H, W, 3)` float32 in 0..255, of static shape.
        seed: `(2,)` integers.
        recipe: what to do.
        use_xla: whether XLA compiles it for the host, once per shape and process (seconds). Op by
            op it takes several times as long; pixels differ by rounding only.

    Returns:
        The same shape and range.
    """
    # Drawn out here: XLA's random numbers are not those of the same op outside it.
    draws = tf.random.stateless_uniform((13,), seed)
    # As tensors: the views of all recipes share one compilation.
    probabilities = tf.constant([recipe.jitter, recipe.grayscale, recipe.blur, recipe.solarize])
    strengths, sigmas = tf.constant(recipe.jitter_strengths), tf.constant(recipe.blur_sigma)
    change = _compiled_change if use_xla else _change
    return change(image, draws, probabilities, strengths, sigmas, recipe.blur_sigma[1])


def _change(
    image: Tensor,
    draws: Tensor,
    probabilities: Tensor,
    strengths: Tensor,
    sigmas: Tensor,
    max_sigma: float,
) -> Tensor:
    """A recipe as a function of `(13,)` numbers in [0, 1)."""
    factors = strengths * (2 * draws[:4] - 1) + tf.constant([1.0, 1.0, 1.0, 0.0])
    order = tf.argsort(draws[4:8])
    sigma = sigmas[0] + (sigmas[1] - sigmas[0]) * draws[8]
    is_applied = draws[9:] < probabilities
    steps: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: photometric.color_jitter(x, factors, order),
        lambda x: tf.repeat(photometric.to_grayscale(x), 3, axis=-1),
        lambda x: photometric.gaussian_blur(x, sigma, max_sigma),
        photometric.solarize,
    )
    for number, step in enumerate(steps):
        # A branch, because what is not applied need not be computed.
        image = tf.cond(is_applied[number], lambda x=image, step=step: step(x), lambda x=image: x)
    return image


_compiled_change = tf.function(_change, jit_compile=True)
