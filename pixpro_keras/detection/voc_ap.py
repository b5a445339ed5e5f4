"""Average precision of Pascal VOC, as detectron2's PascalVOCDetectionEvaluator reports it."""

from collections.abc import Sequence

import numpy as np

from pixpro_keras.detection.box_source import Objects
from pixpro_keras.detection.inference import Found

_THRESHOLDS = tuple(range(50, 100, 5))  # IoU in percent


def average_precision(recall: np.ndarray, precision: np.ndarray, use_2007: bool) -> float:
    """Area below the curve of precision over recall.

    Args:
        recall: `(n,)`, ascending, in [0, 1].
        precision: `(n,)` in [0, 1].
        use_2007: the mean of the highest precisions from recall 0, 0.1, ..., 1 on, as in VOC 2007,
            instead of the exact area below the curve made monotonous, as from 2010 on.

    Returns:
        In [0, 1].
    """
    if use_2007:
        steps = [precision[recall >= t] for t in np.arange(0.0, 1.1, 0.1)]
        return float(np.mean([step.max(initial=0.0) for step in steps]))
    recall = np.concatenate([[0.0], recall, [1.0]])
    precision = np.concatenate([[0.0], precision, [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision[1:]))


def score_class(
    found: Sequence[Found], truth: Sequence[Objects], label: int, threshold: float, use_2007: bool
) -> float:
    """Average precision of one class.

    By falling score, a detection is right if the true box that it overlaps most, by more than the
    threshold, has not been found before; with a difficult one it does not count.

    Args:
        found: of each image.
        truth: of each image; ignored objects are the difficult ones.
        label: the class.
        threshold: IoU in [0, 1].
        use_2007: see `average_precision`.

    Returns:
        In [0, 1]; NaN without an object of the class that counts.
    """
    true_boxes = [one.boxes[one.classes == label] for one in truth]
    difficult = [one.is_ignored[one.classes == label] for one in truth]
    total = sum(int((~one).sum()) for one in difficult)
    if not total:
        return float("nan")
    scores = np.concatenate([one.scores[one.classes == label] for one in found])
    boxes = np.concatenate([one.boxes[one.classes == label] for one in found])
    counts = [int((one.classes == label).sum()) for one in found]
    images = np.repeat(np.arange(len(found)), counts)
    taken = [np.zeros(len(one), bool) for one in true_boxes]
    right, wrong = np.zeros(len(scores)), np.zeros(len(scores))
    for place, number in enumerate(np.argsort(-scores, kind="stable")):
        image = images[number]
        overlaps = _overlaps(boxes[number], true_boxes[image])
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] <= threshold or taken[image][best]:
            wrong[place] = 1
        elif not difficult[image][best]:
            right[place] = 1
            taken[image][best] = True
    right, wrong = np.cumsum(right), np.cumsum(wrong)
    precision = right / np.maximum(right + wrong, 1e-9)
    return average_precision(right / total, precision, use_2007)


def voc_scores(
    found: Sequence[Found], truth: Sequence[Objects], class_names: Sequence[str], use_2007: bool
) -> dict[str, float]:
    """`AP` (mean over IoU 0.5, 0.55, ... 0.95), `AP50`, `AP75` and each class's AP50.

    Args:
        found: of each image.
        truth: of each image.
        class_names: of the classes; those without an object do not count.
        use_2007: see `average_precision`.

    Returns:
        In [0, 1], by name.
    """
    table = np.array(
        [
            [score_class(found, truth, label, t / 100, use_2007) for t in _THRESHOLDS]
            for label in range(len(class_names))
        ]
    )
    table = table[~np.isnan(table[:, 0])]
    names = [
        name
        for label, name in enumerate(class_names)
        if any((~one.is_ignored[one.classes == label]).any() for one in truth)
    ]
    means = table.mean(axis=0)
    scores = {"AP": means.mean(), "AP50": means[0], "AP75": means[_THRESHOLDS.index(75)]}
    scores |= {f"AP50 {name}": value for name, value in zip(names, table[:, 0], strict=True)}
    return {name: float(value) for name, value in scores.items()}


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box with others: `(n,)`."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return common / np.maximum(areas - common, 1e-9)
