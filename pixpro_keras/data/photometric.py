"""Changes of colour and sharpness with torchvision's meaning, on float32 images in 0..255.

Every function is pure: the same image and seed give the same pixels, in any thread. torchvision on
PIL images rounds to whole numbers after each step; here nothing is rounded.
"""

import tensorflow as tf

from pixpro_keras.batch import Tensor

_GRAY_WEIGHTS = (0.299, 0.587, 0.114)


def adjust_brightness(image: Tensor, factor: Tensor) -> Tensor:
    """`factor * image`, cut to 0..255."""
    return _clip(image * factor)


def adjust_contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Away from the mean of the grayscale image (factor > 1) or towards it, cut to 0..255."""
    mean = tf.reduce_mean(to_grayscale(image))
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
    return tf.tensordot(image, tf.constant(_GRAY_WEIGHTS), 1)[..., None]


def color_jitter(image: Tensor, seed: Tensor, strengths: tuple[float, ...]) -> Tensor:
    """Random brightness, contrast, saturation and hue, in random order.

    Args:
        image: `(H, W, 3)`.
        seed: `(2,)` integers.
        strengths: b, c, s, h: factors are uniform in `1 +- b` and so on, the hue turns by up to h.
    """
    draws = tf.random.stateless_uniform((8,), seed)
    spread = tf.constant(strengths) * (2 * draws[:4] - 1)
    factors = tf.concat([1 + spread[:3], spread[3:]], axis=0)
    order = tf.argsort(draws[4:])
    steps = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)
    for place in range(4):
        current = image
        image = tf.switch_case(
            order[place],
            [
                lambda step=step, factor=factors[kind], x=current: step(x, factor)
                for kind, step in enumerate(steps)
            ],
        )
    return image


def gaussian_blur(image: Tensor, sigma: Tensor, max_sigma: float) -> Tensor:
    """Gaussian blur; beyond the border the border's pixels go on.

    Done as one matrix product per axis: at the sizes of views it is as fast as a convolution.

    Args:
        image: `(H, W, 3)` of static shape.
        sigma: standard deviation in pixels, scalar.
        max_sigma: largest sigma; sets the kernel's radius of three standard deviations.
    """
    radius = int(3 * max_sigma + 0.5)
    height, width, channels = image.shape
    rows = tf.matmul(
        _blur_matrix(height, sigma, radius), tf.reshape(image, (height, width * channels))
    )
    columns = tf.transpose(tf.reshape(rows, (height, width, channels)), (1, 0, 2))
    columns = tf.matmul(
        _blur_matrix(width, sigma, radius), tf.reshape(columns, (width, height * channels))
    )
    return tf.transpose(tf.reshape(columns, (width, height, channels)), (1, 0, 2))


def _blur_matrix(size: int, sigma: Tensor, radius: int) -> Tensor:
    """`(size, size)`: how much of pixel j goes into pixel i."""
    pixels = tf.range(size, dtype=tf.float32)[:, None]
    padded = tf.range(-radius, size + radius, dtype=tf.float32)[None, :]
    distance = padded - pixels
    weights = tf.exp(-tf.square(distance) / (2 * tf.square(sigma)))
    weights = tf.where(tf.abs(distance) <= radius, weights, 0.0)
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    first = tf.reduce_sum(weights[:, : radius + 1], axis=1, keepdims=True)
    last = tf.reduce_sum(weights[:, radius + size - 1 :], axis=1, keepdims=True)
    return tf.concat([first, weights[:, radius + 1 : radius + size - 1], last], axis=1)


def solarize(image: Tensor, threshold: float = 128.0) -> Tensor:
    """Inverts the values from the threshold on."""
    return tf.where(image >= threshold, 255.0 - image, image)


def _clip(image: Tensor) -> Tensor:
    return tf.clip_by_value(image, 0.0, 255.0)
