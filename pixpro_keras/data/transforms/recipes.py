"""Augmentation recipes: the crop of each view, and the changes of its colors."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from pixpro_keras.data.transforms import photometric
from pixpro_keras.data.transforms.rand_augment import rand_augment
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

# Index of the random number of a view that decides about grayscale.
_GRAY = 10


@dataclasses.dataclass(frozen=True)
class ViewRecipe:
    """Probabilities and strengths of one view, applied in this order.

    Attributes:
        interpolation: interpolation of the crop, `"bilinear"` or `"bicubic"`.
        min_overlap: smallest fraction of the crop that view 1 shows too, unless ten tries find no such
            crop.
        flip: probability of a horizontal flip.
        jitter: probability of color jitter.
        jitter_strengths: brightness, contrast, saturation, hue.
        grayscale: probability of grayscale.
        blur: probability of Gaussian blur.
        blur_sigma: smallest and largest standard deviation in pixels.
        solarize: probability of solarization: values from 128 on are inverted.
        is_grayscale_first: if True, grayscale comes before the jitter.
        is_rand_augmented: if True, RandAugment is applied between blur and grayscale. It moves
            pixels, and the coordinates do not follow.

    Example:
        ```python
        from pixpro_keras.data.transforms import ViewRecipe

        only_crop = ViewRecipe(jitter=0.0, grayscale=0.0, blur=0.0, flip=0.0)
        assert not only_crop.changes_colors
        ```
    """

    interpolation: str = "bilinear"
    min_overlap: float = 0.0
    flip: float = 0.5
    jitter: float = 0.8
    jitter_strengths: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    grayscale: float = 0.2
    blur: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    is_grayscale_first: bool = False
    is_rand_augmented: bool = False

    @property
    def changes_colors(self) -> bool:
        """True if anything happens after the flip."""
        return any((self.jitter, self.grayscale, self.blur, self.solarize, self.is_rand_augmented))


_SIMCLR = ViewRecipe(jitter_strengths=(0.8, 0.8, 0.8, 0.2))
_CROP_AND_FLIP = ViewRecipe(jitter=0.0, grayscale=0.0, blur=0.0)
_INSTDISC = ViewRecipe(
    jitter=1.0, jitter_strengths=(0.4, 0.4, 0.4, 0.4), blur=0.0, is_grayscale_first=True
)
# Name -> recipes of view 1 and view 2.
RECIPES: dict[str, tuple[ViewRecipe, ViewRecipe]] = {
    "byol": (ViewRecipe(blur=1.0), ViewRecipe(blur=0.1, solarize=0.2)),
    "infomin": (dataclasses.replace(_SIMCLR, is_rand_augmented=True),) * 2,
    "instdisc": (_INSTDISC,) * 2,
    "mocov2": (ViewRecipe(jitter_strengths=(0.4, 0.4, 0.4, 0.1)),) * 2,
    "simclr": (_SIMCLR,) * 2,
    "slotcon": (
        ViewRecipe(interpolation="bicubic", blur=1.0),
        ViewRecipe(interpolation="bicubic", blur=0.1, solarize=0.2, min_overlap=0.01),
    ),
    "supervised": (_CROP_AND_FLIP,) * 2,
}


def moves_pixels(name: str) -> bool:
    """True if a recipe moves pixels in ways that its coordinates do not follow.

    Args:
        name: key of `RECIPES`.

    Example:
        ```python
        from pixpro_keras.data.transforms import moves_pixels

        assert moves_pixels("infomin") and not moves_pixels("byol")
        ```
    """
    return any(recipe.is_rand_augmented for recipe in RECIPES[name])


def scale_colors(recipe: ViewRecipe, strength: float) -> ViewRecipe:
    """Scales the color augmentation of a recipe; crop, flip and blur stay the same.

    Args:
        recipe: probabilities and strengths.
        strength: factor of the jitter's strengths and of the probabilities of grayscale and
            solarization, each clipped to its valid range; at least 0. With 0, colors do not change.

    Raises:
        ValueError: if `strength` is negative.

    Example:
        ```python
        from pixpro_keras.data.transforms import RECIPES, scale_colors

        print(scale_colors(RECIPES["byol"][0], 0.5).grayscale)  # 0.1
        ```
    """
    checks.at_least("color_strength", strength, 0)
    *others, hue = (strength * x for x in recipe.jitter_strengths)
    brightness, contrast, saturation = (min(x, 1.0) for x in others)
    return dataclasses.replace(
        recipe,
        jitter_strengths=(brightness, contrast, saturation, min(hue, 0.5)),
        grayscale=min(strength * recipe.grayscale, 1.0),
        solarize=min(strength * recipe.solarize, 1.0),
    )


def scale_blur(recipe: ViewRecipe, strength: float) -> ViewRecipe:
    """Scales the blur of a recipe.

    The recipes are for images of 224 px; on smaller ones the same blur removes more.

    Args:
        recipe: probabilities and strengths.
        strength: factor of the blur's standard deviation, at least 0. With 0 there is no blur.

    Raises:
        ValueError: if `strength` is negative.

    Example:
        ```python
        from pixpro_keras.data.transforms import RECIPES, scale_blur

        print(scale_blur(RECIPES["byol"][0], 0.5).blur_sigma)  # (0.05, 1.0)
        ```
    """
    checks.at_least("blur_strength", strength, 0)
    low, high = recipe.blur_sigma
    return dataclasses.replace(
        recipe, blur=recipe.blur if strength else 0.0, blur_sigma=(strength * low, strength * high)
    )


def draw(seed: Tensor) -> Tensor:
    """Draws the `(13,)` random numbers in [0, 1) that decide about one view's colors and blur."""
    return tf.random.stateless_uniform((13,), seed)


def apply_photometric(
    image: Tensor, seed: Tensor, recipe: ViewRecipe, use_xla: bool = True
) -> Tensor:
    """Applies the color, blur and solarization steps of a recipe to one view.

    Args:
        image: `(H, W, 3)` float32 in 0..255, of static shape.
        seed: `(2,)` integers.
        recipe: probabilities and strengths.
        use_xla: if True, XLA compiles it for the host, which takes seconds once per shape and
            process. Without XLA it takes several times as long; pixels differ by rounding only.

    Returns:
        The same shape and range.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.transforms import RECIPES, apply_photometric

        view = tf.fill((16, 16, 3), 100.0)
        view = apply_photometric(view, tf.constant([0, 1]), RECIPES["byol"][0], use_xla=False)
        assert view.shape == (16, 16, 3)
        ```
    """
    # Drawn outside XLA, whose random numbers differ from TensorFlow's.
    if not recipe.changes_colors:
        return image
    draws = draw(seed)
    # Tensors, so that all recipes share one compilation.
    probabilities, strengths, sigmas = _numbers(recipe)
    change = _compiled_change if use_xla else _change
    image = change(image, draws, probabilities, strengths, sigmas, recipe.blur_sigma[1])
    if recipe.is_rand_augmented:
        image = rand_augment(image, tf.random.fold_in(seed, 1))
        image = tf.cond(draws[_GRAY] < recipe.grayscale, lambda: _lose_color(image), lambda: image)
    return image


def apply_to_batch(images: Tensor, draws: Tensor, recipe: ViewRecipe) -> Tensor:
    """`apply_photometric` for a whole batch, without branches, for accelerators.

    Args:
        images: `(B, H, W, 3)` float32 in 0..255, of static shape.
        draws: `(B, 13)`. Random numbers of `draw` for each image.
        recipe: probabilities and strengths.

    Returns:
        The same shape and range; from `apply_photometric` of each image it differs by rounding only.

    Raises:
        ValueError: if the recipe has RandAugment, which is for single images.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.transforms import RECIPES, apply_to_batch

        draws = tf.random.stateless_uniform((2, 13), [0, 1])
        views = apply_to_batch(tf.fill((2, 16, 16, 3), 100.0), draws, RECIPES["byol"][0])
        assert views.shape == (2, 16, 16, 3)
        ```
    """
    if recipe.is_rand_augmented:
        raise ValueError("RandAugment is for single images")
    if not recipe.changes_colors:
        return images
    factors, order, sigma, is_applied = _decide(draws, *_numbers(recipe))
    order = tf.cast(order, tf.int64)  # On a GPU: see `ops.argmax`.

    def image(x: Tensor) -> Tensor:
        """Reshapes `(B,)` to broadcast over images."""
        return tf.reshape(x, (-1, 1, 1, 1))

    def jitter(x: Tensor) -> Tensor:
        for place in range(4):
            kind = image(order[:, place])
            changed = (
                photometric.adjust_brightness(x, image(factors[:, 0])),
                photometric.adjust_contrast(x, image(factors[:, 1])),
                photometric.adjust_saturation(x, image(factors[:, 2])),
                photometric.adjust_hue(x, factors[:, 3, None, None]),
            )
            x = sum(tf.where(kind == number, one, 0.0) for number, one in enumerate(changed))
        return x

    def blur(x: Tensor) -> Tensor:
        weights = photometric.blur_weights(sigma[:, None], recipe.blur_sigma[1])
        weights = [image(weight) for weight in tf.unstack(weights, axis=-1)]
        for side in (1, 2):
            x = photometric.weigh_shifted(x, weights, side)
        return x

    steps: tuple[Callable[[Tensor], Tensor], ...] = (
        _lose_color,
        jitter,
        _lose_color,
        blur,
        photometric.solarize,
    )
    for number, (step, probability) in enumerate(zip(steps, _probabilities(recipe), strict=True)):
        if probability:
            images = tf.where(image(is_applied[:, number]), step(images), images)
    return images


def _probabilities(recipe: ViewRecipe) -> tuple[float, ...]:
    """Probabilities of grayscale before the jitter, jitter, grayscale after it, blur and solarization."""
    first, later = (recipe.grayscale, 0.0)[:: 1 if recipe.is_grayscale_first else -1]
    if recipe.is_rand_augmented:
        later = 0.0  # after RandAugment
    return first, recipe.jitter, later, recipe.blur, recipe.solarize


def _numbers(recipe: ViewRecipe) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, strengths of the jitter and range of the blur's sigma, as one vector."""
    return tuple(
        tf.constant(x) for x in (_probabilities(recipe), recipe.jitter_strengths, recipe.blur_sigma)
    )


def _decide(
    draws: Tensor, probabilities: Tensor, strengths: Tensor, sigmas: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Converts `(..., 13)` uniform random numbers to parameters of the augmentation.

    Returns:
        Jitter's factors `(..., 4)` and order `(..., 4)`, the blur's sigma `(...)`, and True for each of
        the five steps that happen, `(..., 5)`.
    """
    factors = strengths * (2 * draws[..., :4] - 1) + tf.constant([1.0, 1.0, 1.0, 0.0])
    sigma = sigmas[0] + (sigmas[1] - sigmas[0]) * draws[..., 8]
    is_applied = tf.gather(draws, [_GRAY, 9, _GRAY, 11, 12], axis=-1) < probabilities
    return factors, tf.argsort(draws[..., 4:8]), sigma, is_applied


def _change(
    image: Tensor,
    draws: Tensor,
    probabilities: Tensor,
    strengths: Tensor,
    sigmas: Tensor,
    max_sigma: float,
) -> Tensor:
    """Applies a recipe with the `(13,)` uniform random numbers."""
    factors, order, sigma, is_applied = _decide(draws, probabilities, strengths, sigmas)
    steps: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda x: _lose_color(x, axis=0),
        lambda x: photometric.color_jitter(x, factors, order, axis=0),
        lambda x: _lose_color(x, axis=0),
        lambda x: photometric.gaussian_blur(x, sigma, max_sigma, axis=0),
        photometric.solarize,
    )
    image = tf.transpose(image, (2, 0, 1))  # a channel after the other: see `photometric`
    for number, step in enumerate(steps):
        # A branch, so that steps that are not applied are not computed.
        image = tf.cond(is_applied[number], lambda x=image, step=step: step(x), lambda x=image: x)
    return tf.transpose(image, (1, 2, 0))


def _lose_color(image: Tensor, axis: int = -1) -> Tensor:
    return tf.repeat(photometric.to_grayscale(image, axis), 3, axis=axis)


_compiled_change = tf.function(_change, jit_compile=True, autograph=False)
