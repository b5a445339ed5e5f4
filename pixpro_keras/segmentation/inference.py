"""Whole images through a network that was trained on crops, and how right it is."""

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.confusion_matrix import Confusion
from pixpro_keras.types import Tensor


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
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    window: int,
    stride: int,
    batch_size: int = 1,
) -> np.ndarray:
    """Probabilities of each pixel, averaged over the windows that hold it.

    An image smaller than a window is enlarged with zeros below and to the right.

    Args:
        predict: `(n, window, window, 3)` to `(n, window, window, num_classes)` probabilities.
        image: `(H, W, 3)`, preprocessed.
        window: side of the windows in pixels.
        stride: pixels from one window to the next, at most `window`.
        batch_size: windows that go through the network together.

    Returns:
        `(H, W, num_classes)` float32.

    Raises:
        ValueError: if the stride would leave pixels out.
    """
    check_stride(stride, window)
    height, width = image.shape[:2]
    padded = tf.pad(image, [[0, max(window - height, 0)], [0, max(window - width, 0)], [0, 0]])
    rows, columns = (window_starts(length, window, stride) for length in padded.shape[:2])
    corners = [(top, left) for top in rows for left in columns]
    total, count = None, np.zeros((*padded.shape[:2], 1), np.float32)
    for begin in range(0, len(corners), batch_size):
        places = [
            (slice(top, top + window), slice(left, left + window))
            for top, left in corners[begin : begin + batch_size]
        ]
        found = np.asarray(predict(tf.stack([padded[place] for place in places])))
        if total is None:
            total = np.zeros((*padded.shape[:2], found.shape[-1]), np.float32)
        for place, probabilities in zip(places, found, strict=True):
            total[place] += probabilities
            count[place] += 1
    return (total / count)[:height, :width]


def evaluate(
    segment: Callable[[Tensor], np.ndarray],
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
) -> Confusion:
    """How often each class is taken for each.

    Args:
        segment: images `(B, H, W, 3)` to classes `(B, H, W)`.
        batches: images and masks `(B, H, W)`, 255 is ignored.
        num_classes: classes.
    """
    confusion = Confusion(num_classes)
    for images, masks in batches:
        confusion.add(np.asarray(masks), segment(images))
    return confusion
