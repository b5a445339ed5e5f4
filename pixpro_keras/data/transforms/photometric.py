"""Color and sharpness augmentation with torchvision's semantics, on float32 images in 0..255.

Every function is pure: the same arguments give the same pixels, in any thread. torchvision on PIL
images rounds to whole numbers after each step; here nothing is rounded. The functions are written
for XLA (see `recipes.apply_photometric`), which makes one pass over the pixels of each step.

Functions of more than one channel take the channels' `axis`: images are `(H, W, 3)`, or `(3, H, W)`
with an axis of 0, for which XLA's loops are a third faster.
"""

import functools

import tensorflow as tf

from pixpro_keras.types import Tensor


def adjust_brightness(image: Tensor, factor: Tensor) -> Tensor:
    """`factor * image`, clipped to 0..255."""
    return _clip(image * factor)


def adjust_contrast(image: Tensor, factor: Tensor, axis: int = -1) -> Tensor:
    """Contrast: away from the mean of the grayscale image (factor > 1) or toward it, clipped to 0..255."""
    # One axis at a time, since the rounding of a sum over all axes depends on the number of threads.
    first, second = (2, 1) if axis == 0 else (-2, -3)
    mean = tf.reduce_mean(to_grayscale(image, axis), axis=first, keepdims=True)
    mean = tf.reduce_mean(mean, axis=second, keepdims=True)
    return _clip(mean + factor * (image - mean))


def adjust_saturation(image: Tensor, factor: Tensor, axis: int = -1) -> Tensor:
    """Saturation: away from the grayscale image (factor > 1) or toward it, clipped to 0..255."""
    gray = to_grayscale(image, axis)
    return _clip(gray + factor * (image - gray))


def adjust_hue(image: Tensor, delta: Tensor, axis: int = -1) -> Tensor:
    """Shifts the hue by `delta`, a fraction of the full circle in [-0.5, 0.5]."""
    red, green, blue = tf.unstack(image, axis=axis)
    value = tf.maximum(tf.maximum(red, green), blue)
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    safe = tf.where(chroma > 0, chroma, 1.0)  # The hue of gray is arbitrary.
    hue = tf.where(
        value == red,
        (green - blue) / safe,
        tf.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue += 6 * delta  # in sixths of the circle
    channels = []
    for start in (5.0, 3.0, 1.0):
        place = tf.math.floormod(start + hue, 6.0)
        share = tf.clip_by_value(tf.minimum(place, 4 - place), 0.0, 1.0)
        channels.append(value - chroma * share)
    return tf.stack(channels, axis=axis)


def to_grayscale(image: Tensor, axis: int = -1) -> Tensor:
    """0.299 R + 0.587 G + 0.114 B, with one channel along `axis`."""
    red, green, blue = tf.split(image, 3, axis=axis)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def color_jitter(image: Tensor, factors: Tensor, order: Tensor, axis: int = -1) -> Tensor:
    """Brightness, contrast, saturation and hue in some order.

    Args:
        image: `(H, W, 3)`, or `(3, H, W)` with an axis of 0.
        factors: `(4,)`. Three factors of at least 0, and the shift of the hue.
        order: `(4,)` int32. A permutation of 0 (brightness) to 3 (hue).
        axis: axis of the channels.
    """
    steps = (
        adjust_brightness,
        functools.partial(adjust_contrast, axis=axis),
        functools.partial(adjust_saturation, axis=axis),
        functools.partial(adjust_hue, axis=axis),
    )

    # A loop instead of four copies, so that XLA compiles each step once.
    def body(place: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        branches = [
            lambda step=step, factor=factors[kind]: step(image, factor)
            for kind, step in enumerate(steps)
        ]
        return place + 1, tf.switch_case(order[place], branches)

    return tf.while_loop(lambda place, _: place < len(steps), body, (0, image))[1]


def gaussian_blur(image: Tensor, sigma: Tensor, max_sigma: float, axis: int = -1) -> Tensor:
    """Gaussian blur; pixels beyond the border equal the nearest border pixels, as in PIL.

    Args:
        image: `(H, W, 3)`, or `(3, H, W)` with an axis of 0, of static shape.
        sigma: standard deviation in pixels, scalar.
        max_sigma: largest sigma; sets the kernel's radius of three standard deviations.
        axis: axis of the channels.
    """
    weights = tf.unstack(blur_weights(sigma, max_sigma))
    for side in (1, 2) if axis == 0 else (0, 1):
        image = weigh_shifted(image, weights, side)
    return image


def blur_weights(sigma: Tensor, max_sigma: float) -> Tensor:
    """A Gaussian's `(..., K)` weights, which add up to 1.

    Args:
        sigma: standard deviation in pixels, scalar or `(..., 1)`.
        max_sigma: largest sigma; K is six times as much.
    """
    radius = int(3 * max_sigma + 0.5)
    distance = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-tf.square(distance) / (2 * tf.square(sigma)))
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def weigh_shifted(image: Tensor, weights: list[Tensor], axis: int) -> Tensor:
    """Weighted sum of copies shifted along an axis (a convolution), with border pixels repeated.

    XLA makes one loop of them, which is faster than its convolutions.

    Args:
        image: image of any shape that is static along the axis.
        weights: an odd number of them, the middle one of the image itself.
        axis: at least 0.
    """
    size, radius = image.shape[axis], len(weights) // 2
    first, last = tf.gather(image, [0], axis=axis), tf.gather(image, [size - 1], axis=axis)
    padded = tf.concat([tf.repeat(first, radius, axis), image, tf.repeat(last, radius, axis)], axis)
    before = (slice(None),) * axis
    return tf.add_n(
        [weight * padded[(*before, slice(k, k + size))] for k, weight in enumerate(weights)]
    )


def solarize(image: Tensor) -> Tensor:
    """Inverts the values from the middle on: torchvision's solarize at a threshold of 128.

    For whole numbers `min(x, 255 - x)` is `255 - x` where `x >= 128`, else `x`; between 127 and
    128, where only unrounded pixels lie, it has no step.
    """
    return tf.minimum(image, 255.0 - image)


def _clip(image: Tensor) -> Tensor:
    return tf.clip_by_value(image, 0.0, 255.0)
