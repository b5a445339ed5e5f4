"""Intersection over union, from one confusion matrix."""

import dataclasses

import numpy as np

from pixpro_keras.segmentation.mask_source import IGNORED


class Confusion:
    """Counts how often each class is taken for each.

    Args:
        num_classes: classes are in [0, num_classes); pixels of class 255 do not count.

    Attributes:
        matrix: `(num_classes, num_classes)` counts, true classes in rows.
    """

    def __init__(self, num_classes: int):
        self.matrix = np.zeros((num_classes, num_classes), np.int64)

    def add(self, mask: np.ndarray, prediction: np.ndarray) -> None:
        """Adds the pixels of an image or of several: true and predicted classes, of one shape."""
        size = len(self.matrix)
        counts = mask != IGNORED
        pairs = mask[counts].astype(np.int64) * size + prediction[counts]
        self.matrix += np.bincount(pairs, minlength=size**2).reshape(size, size)

    def scores(self) -> "Scores":
        """What the counts say so far."""
        right = np.diag(self.matrix).astype(np.float64)
        either = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - right
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = right / either
        total = max(self.matrix.sum(), 1)
        return Scores(float(np.nanmean(iou)), tuple(iou.tolist()), float(right.sum() / total))


@dataclasses.dataclass(frozen=True)
class Scores:
    """Quality of a segmentation.

    Attributes:
        miou: mean of the classes' intersections over unions, in [0, 1], without those that neither
            occur nor are predicted.
        iou: of each class; NaN of those.
        pixel_accuracy: share of the pixels whose class is right, in [0, 1].
    """

    miou: float
    iou: tuple[float, ...]
    pixel_accuracy: float
