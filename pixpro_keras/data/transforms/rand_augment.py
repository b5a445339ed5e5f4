"""RandAugment as InfoMin's authors use it, on float32 images in 0..255.

keras-cv has one too, but its random numbers are not a function of a seed: neither a resumed run nor a
second thread would see the same images.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from pixpro_keras.data.transforms import photometric
from pixpro_keras.types import Tensor

_PROBABILITY = 0.5  # of each drawn change
# Fill beyond the border: ImageNet's mean color.
_FILL = (124.0, 116.0, 104.0)


def rand_augment(
    image: Tensor,
    seed: Tensor,
    num_changes: int = 2,
    magnitude: float = 10.0,
    magnitude_std: float = 0.5,
) -> Tensor:
    """Applies random changes, each drawn from `CHANGES` and skipped with probability 0.5.

    The strength of each is normal around `magnitude`, clipped to 0..10, and the sign of changes with two
    directions is random. Pixels are interpolated bilinearly (the authors: bilinearly or
    bicubically, at random) and not rounded, except for changes of integer values.

    Args:
        image: `(H, W, 3)` float32 in 0..255, of static shape.
        seed: `(2,)` integers.
        num_changes: number of changes that are drawn, with repetition.
        magnitude: mean strength, 0 to 10.
        magnitude_std: standard deviation of the strength.

    Returns:
        The same shape and range.

    Reference:
        Cubuk et al., 2019, arXiv:1909.13719; strengths as in the InfoMin authors' code.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.transforms.rand_augment import rand_augment

        image = rand_augment(tf.fill((16, 16, 3), 100.0), tf.constant([0, 1]))
        assert image.shape == (16, 16, 3)
        ```
    """
    uniform = tf.random.stateless_uniform((num_changes, 3), seed)
    normal = tf.random.stateless_normal((num_changes,), tf.random.fold_in(seed, 1))
    levels = tf.clip_by_value(magnitude + magnitude_std * normal, 0.0, 10.0) / 10.0
    for number in range(num_changes):
        kind = tf.cast(uniform[number, 0] * len(CHANGES), tf.int32)
        sign = tf.where(uniform[number, 1] < 0.5, -1.0, 1.0)
        branches = [
            lambda x=image, k=number, s=sign, change=change: change(x, levels[k], s)
            for change in CHANGES.values()
        ]
        changed = tf.cond(
            uniform[number, 2] < _PROBABILITY,
            lambda kind=kind, branches=branches: tf.switch_case(kind, branches),
            lambda x=image: x,
        )
        image = tf.ensure_shape(changed, image.shape)
    return image


def auto_contrast(image: Tensor) -> Tensor:
    """Stretches each channel to 0..255."""
    low = tf.reduce_min(image, axis=(0, 1))
    high = tf.reduce_max(image, axis=(0, 1))
    stretched = (image - low) * 255.0 / tf.maximum(high - low, 1e-6)
    return tf.where(high > low, stretched, image)


def equalize(image: Tensor) -> Tensor:
    """Flattens the histogram of each channel, of values rounded to whole numbers."""
    whole = tf.cast(tf.round(image), tf.int32)
    channels = [_equalize_channel(whole[..., k]) for k in range(3)]
    return tf.cast(tf.stack(channels, axis=-1), tf.float32)


def _equalize_channel(channel: Tensor) -> Tensor:
    counts = tf.math.bincount(tf.reshape(channel, (-1,)), minlength=256, maxlength=256)
    last = counts[tf.reduce_max(channel)]
    step = (tf.reduce_sum(counts) - last) // 255
    table = (step // 2 + tf.cumsum(counts, exclusive=True)) // tf.maximum(step, 1)
    equalized = tf.gather(tf.clip_by_value(table, 0, 255), channel)
    return tf.where(step > 0, equalized, channel)


def posterize(image: Tensor, num_bits: Tensor) -> Tensor:
    """Keeps the highest bits of each value."""
    unit = tf.cast(tf.bitwise.left_shift(1, 8 - num_bits), tf.float32)
    return tf.floor(tf.round(image) / unit) * unit


def solarize_add(image: Tensor, amount: Tensor) -> Tensor:
    """Makes the darker half of the values brighter, at most 255."""
    return tf.where(image < 128.0, tf.minimum(image + amount, 255.0), image)


def adjust_sharpness(image: Tensor, factor: Tensor) -> Tensor:
    """Sharpness: away from a smoothed image (factor > 1) or toward it. The border does not change."""
    kernel = tf.constant([[1.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 1.0]]) / 13.0
    kernel = tf.tile(kernel[:, :, None, None], (1, 1, 3, 1))
    inside = tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "VALID")[0]
    change = tf.pad((factor - 1.0) * (image[1:-1, 1:-1] - inside), ((1, 1), (1, 1), (0, 0)))
    return tf.clip_by_value(image + change, 0.0, 255.0)


def affine(image: Tensor, rows: tuple[tuple, tuple]) -> Tensor:
    """Moves pixels: the result at `(x, y)` is the image at `rows @ (x, y, 1)`.

    Args:
        image: `(H, W, 3)`.
        rows: two rows of three numbers, in pixels; a pixel's center is at half numbers.
    """
    (a, b, c), (d, e, f) = rows
    # The operation has pixel centers at integers.
    matrix = [a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, 0.0, 0.0]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=(image - _FILL)[None],
        transforms=tf.stack([tf.cast(number, tf.float32) for number in matrix])[None],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return moved[0] + _FILL


def rotate(image: Tensor, degrees: Tensor) -> Tensor:
    """Turns the image counter-clockwise about its center."""
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = image.shape[1] / 2, image.shape[0] / 2
    return affine(image, ((cos, -sin, x - x * cos + y * sin), (sin, cos, y - x * sin - y * cos)))


def _enhancement(level: Tensor) -> Tensor:
    return 0.1 + 1.8 * level


# Name -> image, strength in 0..1 and sign to image.
CHANGES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "auto_contrast": lambda x, level, sign: auto_contrast(x),
    "equalize": lambda x, level, sign: equalize(x),
    "invert": lambda x, level, sign: 255.0 - x,
    "rotate": lambda x, level, sign: rotate(x, sign * 30.0 * level),
    "posterize": lambda x, level, sign: posterize(x, tf.cast(4 * level, tf.int32)),
    "solarize": lambda x, level, sign: tf.where(x < tf.floor(256.0 * level), x, 255.0 - x),
    "solarize_add": lambda x, level, sign: solarize_add(x, tf.floor(110.0 * level)),
    "color": lambda x, level, sign: photometric.adjust_saturation(x, _enhancement(level)),
    "contrast": lambda x, level, sign: photometric.adjust_contrast(x, _enhancement(level)),
    "brightness": lambda x, level, sign: photometric.adjust_brightness(x, _enhancement(level)),
    "sharpness": lambda x, level, sign: adjust_sharpness(x, _enhancement(level)),
    "shear_x": lambda x, level, sign: affine(x, ((1, sign * 0.3 * level, 0), (0, 1, 0))),
    "shear_y": lambda x, level, sign: affine(x, ((1, 0, 0), (sign * 0.3 * level, 1, 0))),
    "translate_x": lambda x, level, sign: affine(
        x, ((1, 0, sign * 0.45 * level * x.shape[1]), (0, 1, 0))
    ),
    "translate_y": lambda x, level, sign: affine(
        x, ((1, 0, 0), (0, 1, sign * 0.45 * level * x.shape[0]))
    ),
}
