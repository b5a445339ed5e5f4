"""Changes of colour and sharpness with torchvision's meaning, on float32 images in 0..255.

Every function is pure: the same arguments give the same pixels, in any thread. torchvision on PIL
images rounds to whole numbers after each step; here nothing is rounded. The functions are written
for XLA (see `recipes.apply_photometric`), which makes one pass over the pixels of each step.
"""

import tensorflow as tf

from pixpro_keras.batch import Tensor


def adjust_brightness(image: Tensor, factor: Tensor) -> Tensor:
    """`factor * image`, cut to 0..255."""
    return _clip(image * factor)


def adjust_contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Away from the mean of the grayscale image (factor > 1) or towards it, cut to 0..255."""
    # One axis at a time: a sum over everything is split among however many threads there are, and
    # its last bits with it.
    mean = tf.reduce_mean(tf.reduce_mean(to_grayscale(image), axis=1), axis=0)
    return _clip(mean + factor * (image - mean))


def adjust_saturation(image: Tensor, factor: Tensor) -> Tensor:
    """Away from the grayscale image (factor > 1) or towards it, cut to 0..255."""
    gray = to_grayscale(image)
    return _clip(gray + factor * (image - gray))


def adjust_hue(image: Tensor, delta: Tensor) -> Tensor:
    """Turns the hue by `delta`, a share of the full circle, in [-0.5, 0.5]."""
    return tf.image.adjust_hue(image, delta)


def to_grayscale(image: Tensor) -> Tensor:
    """`(H, W, 3)` to `(H, W, 1)`: 0.299 R + 0.587 G + 0.114 B."""
    red, green, blue = tf.split(image, 3, axis=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def color_jitter(image: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue in some order.

    Args:
        image: `(H, W, 3)`.
        factors: `(4,)`: three factors, which are at least 0, and the turn of the hue.
        order: `(4,)` int32. A permutation of 0 (brightness) to 3 (hue).
    """
    steps = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)

    # A loop and not four copies: XLA compiles each step once.
    def body(place: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        branches = [
            lambda step=step, factor=factors[kind]: step(image, factor)
            for kind, step in enumerate(steps)
        ]
        return place + 1, tf.switch_case(order[place], branches)

    return tf.while_loop(lambda place, _: place < len(steps), body, (0, image))[1]


def gaussian_blur(image: Tensor, sigma: Tensor, max_sigma: float) -> Tensor:
    """Gaussian blur; beyond the border the border's pixels go on, as in PIL.

    Args:
        image: `(H, W, 3)` of static shape.
        sigma: standard deviation in pixels, scalar.
        max_sigma: largest sigma; sets the kernel's radius of three standard deviations.
    """
    radius = int(3 * max_sigma + 0.5)
    distance = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.exp(-tf.square(distance) / (2 * tf.square(sigma)))
    weights = tf.unstack(weights / tf.reduce_sum(weights))
    height, width, channels = image.shape
    # Sums of shifted images: XLA makes one loop of each axis, faster than its convolutions. Rows
    # stay flat, so that its innermost loop is long.
    rows = tf.reshape(image, (height, width * channels))
    padded = tf.concat([tf.repeat(rows[:1], radius, 0), rows, tf.repeat(rows[-1:], radius, 0)], 0)
    rows = tf.add_n([weight * padded[k : k + height] for k, weight in enumerate(weights)])
    first = tf.tile(rows[:, :channels], (1, radius))
    last = tf.tile(rows[:, -channels:], (1, radius))
    padded = tf.concat([first, rows, last], 1)
    shifts = range(0, channels * len(weights), channels)
    rows = tf.add_n(
        [w * padded[:, k : k + width * channels] for k, w in zip(shifts, weights, strict=True)]
    )
    return tf.reshape(rows, image.shape)


def solarize(image: Tensor) -> Tensor:
    """Inverts the values from the middle on: torchvision's solarize at a threshold of 128.

    For whole numbers `min(x, 255 - x)` is `255 - x` where `x >= 128`, else `x`; between 127 and
    128, where only unrounded pixels lie, it has no step.
    """
    return tf.minimum(image, 255.0 - image)


def _clip(image: Tensor) -> Tensor:
    return tf.clip_by_value(image, 0.0, 255.0)
