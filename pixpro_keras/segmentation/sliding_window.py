"""Segmentation of whole images by a network that was trained on crops."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pixpro_keras.types import Tensor


def check_stride(stride: int, window: int) -> None:
    """Checks that the windows leave no gaps.

    Args:
        stride: pixels from one window to the next.
        window: side of the windows in pixels.

    Raises:
        ValueError: if the stride is not in 1..window.
    """
    if not 1 <= stride <= window:
        raise ValueError(f"`stride` must be in 1..{window} (`window`). Received: stride={stride}.")


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along an axis: every stride, the last window at the end.

    Args:
        length: length of the axis in pixels, at least `window`.
        window: length of a window in pixels.
        stride: pixels from one window to the next, at least 1.

    Returns:
        First pixels in ascending order.
    """
    starts = list(range(0, length - window, stride))
    return [*starts, length - window]


def sliding_window_inference(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    window: int,
    stride: int,
    batch_size: int = 1,
    padding: Tensor | float = 0.0,
) -> np.ndarray:
    """Probabilities of each pixel, averaged over the windows that contain it.

    An image smaller than a window is padded below and to the right.

    Args:
        predict: function of `(n, window, window, 3)` to `(n, window, window, num_classes)`
            probabilities.
        image: `(H, W, 3)`, preprocessed.
        window: side of the windows in pixels.
        stride: pixels from one window to the next, at most `window`.
        batch_size: windows that go through the network together.
        padding: color of the padding, a number or `(3,)`, preprocessed.

    Returns:
        `(H, W, num_classes)` float32.

    Raises:
        ValueError: if the stride would skip pixels.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.segmentation import sliding_window_inference

        image = tf.constant(np.random.rand(20, 30, 3), "float32")
        print(sliding_window_inference(tf.nn.softmax, image, window=16, stride=8).shape)
        ```
    """
    check_stride(stride, window)
    height, width = image.shape[:2]
    padded = image
    if height < window or width < window:
        missing = [[0, max(window - height, 0)], [0, max(window - width, 0)], [0, 0]]
        padded = tf.pad(image - padding, missing) + padding
    rows, columns = (window_starts(length, window, stride) for length in padded.shape[:2])
    corners = [(top, left) for top in rows for left in columns]
    total, count = None, np.zeros((*padded.shape[:2], 1), np.float32)
    for begin in range(0, len(corners), batch_size):
        regions = [
            (slice(top, top + window), slice(left, left + window))
            for top, left in corners[begin : begin + batch_size]
        ]
        outputs = np.asarray(predict(tf.stack([padded[region] for region in regions])))
        if total is None:
            total = np.zeros((*padded.shape[:2], outputs.shape[-1]), np.float32)
        for region, probabilities in zip(regions, outputs, strict=True):
            total[region] += probabilities
            count[region] += 1
    return (total / count)[:height, :width]
