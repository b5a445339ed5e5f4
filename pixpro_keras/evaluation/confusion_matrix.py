"""The confusion matrix, and the measures of a segmentation that follow from it."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np

from pixpro_keras.types import IGNORED, Tensor


class ConfusionMatrix:
    """Counts of pairs of true and predicted classes.

    Args:
        num_classes: K; classes are in [0, K).
        ignored: label that does not count; None if every label does.

    Attributes:
        matrix: `(K, K)` counts, true classes in rows.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import ConfusionMatrix

        confusion = ConfusionMatrix(2)
        confusion.add(np.array([0, 0, 1, 255]), np.array([0, 1, 1, 1]))
        print(confusion.matrix, confusion.scores().miou)
        ```
    """

    def __init__(self, num_classes: int, ignored: int | None = IGNORED):
        self.matrix = np.zeros((num_classes, num_classes), np.int64)
        self.ignored = ignored

    def add(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Adds the classes of pixels, or of images.

        Args:
            labels: true classes, integers of any shape, in [0, K) or `ignored`.
            predictions: predicted classes in [0, K), of the same shape.

        Raises:
            ValueError: if the shapes differ; naming a label or a prediction that counts and is not in
                [0, K).
        """
        size = len(self.matrix)
        labels, predictions = np.asarray(labels), np.asarray(predictions)
        if labels.shape != predictions.shape:
            raise ValueError(
                "`labels` and `predictions` must have one shape. "
                f"Received: {labels.shape} and {predictions.shape}."
            )
        counted = np.ones(labels.shape, bool) if self.ignored is None else labels != self.ignored
        labels, predictions = labels[counted].astype(np.int64), predictions[counted]
        for name, classes in (("labels", labels), ("predictions", predictions)):
            outside = classes[(classes < 0) | (classes >= size)]
            if outside.size:
                raise ValueError(f"`{name}` must be in [0, {size}). Received: {outside[0]}.")
        pairs = labels * size + predictions
        self.matrix += np.bincount(pairs, minlength=size**2).reshape(size, size)

    def scores(self) -> "SegmentationScores":
        """Measures of all that was added so far."""
        right = np.diag(self.matrix).astype(np.float64)
        union = self.matrix.sum(axis=0) + self.matrix.sum(axis=1) - right
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = right / union
        miou = float(np.nanmean(iou)) if union.any() else float("nan")
        total = max(self.matrix.sum(), 1)
        return SegmentationScores(miou, tuple(iou.tolist()), float(right.sum() / total))


@dataclasses.dataclass(frozen=True)
class SegmentationScores:
    """Quality of a segmentation.

    Attributes:
        miou: mean intersection over union of the classes, in [0, 1], without classes that neither
            occur nor are predicted; NaN if there is no other one.
        iou: intersection over union of each class; NaN for such classes.
        pixel_accuracy: fraction of correctly classified pixels, in [0, 1].

    Example:
        ```python
        from pixpro_keras.evaluation import SegmentationScores

        scores = SegmentationScores(miou=0.6, iou=(0.5, 0.7), pixel_accuracy=0.9)
        ```
    """

    miou: float
    iou: tuple[float, ...]
    pixel_accuracy: float


def evaluate_segmentation(
    segment: Callable[[Tensor], np.ndarray],
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
) -> ConfusionMatrix:
    """Confusion matrix of the pixels of all images.

    Args:
        segment: function of images `(B, H, W, 3)` to predicted classes `(B, H, W)`.
        batches: images and masks `(B, H, W)`, 255 is ignored.
        num_classes: K, number of classes.

    Returns:
        The matrix; its `scores()` are the measures.

    Raises:
        ValueError: if there is no batch.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import evaluate_segmentation

        images = np.random.rand(2, 4, 4, 3)
        masks = (images[..., 0] > 0.5).astype("int32")
        confusion = evaluate_segmentation(
            lambda images: (images.mean(axis=-1) > 0.5).astype("int32"), [(images, masks)], 2
        )
        print(confusion.scores().miou)
        ```
    """
    confusion = None
    for images, masks in batches:
        confusion = confusion or ConfusionMatrix(num_classes)
        confusion.add(masks, segment(images))
    if confusion is None:
        raise ValueError("`batches` must hold at least one batch. Received none.")
    return confusion
