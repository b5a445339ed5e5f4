"""Whole images through a network that was trained on crops."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pixpro_keras.batch import Tensor


def check_stride(stride: int, window: int) -> None:
    """Raises ValueError if windows so far apart would leave pixels out."""
    if not 1 <= stride <= window:
        raise ValueError(f"`stride` must be in 1..{window} (`window`). Received: stride={stride}.")


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along an axis: every stride, the last one at the end.

    Args:
        length: of the axis in pixels, at least `window`.
        window: in pixels.
        stride: in pixels, at least 1.
    """
    starts = list(range(0, length - window, stride))
    return [*starts, length - window]


def slide(
    predict: Callable[[Tensor], Tensor], image: Tensor, window: int, stride: int, num_classes: int
) -> np.ndarray:
    """Probabilities of each pixel, averaged over the windows that hold it.

    An image smaller than a window is enlarged with zeros below and to the right.

    Args:
        predict: `(1, window, window, 3)` to `(1, window, window, num_classes)` logits.
        image: `(H, W, 3)`, preprocessed.
        window: side of the windows in pixels.
        stride: pixels from one window to the next, at most `window`.
        num_classes: classes.

    Returns:
        `(H, W, num_classes)` float32.

    Raises:
        ValueError: if the stride would leave pixels out.
    """
    check_stride(stride, window)
    height, width = image.shape[:2]
    padded = tf.pad(image, [[0, max(window - height, 0)], [0, max(window - width, 0)], [0, 0]])
    total = np.zeros((*padded.shape[:2], num_classes), np.float32)
    count = np.zeros((*padded.shape[:2], 1), np.float32)
    for top in window_starts(padded.shape[0], window, stride):
        for left in window_starts(padded.shape[1], window, stride):
            rows, columns = slice(top, top + window), slice(left, left + window)
            logits = predict(padded[None, rows, columns])
            total[rows, columns] += tf.nn.softmax(logits)[0].numpy()
            count[rows, columns] += 1
    return (total / count)[:height, :width]
