"""Average precision (AP) of Pascal VOC, as detectron2's PascalVOCDetectionEvaluator reports it."""

from collections.abc import Sequence

import numpy as np

from pixpro_keras.detection.inference import Detections
from pixpro_keras.detection.objects import Objects

_THRESHOLDS = tuple(range(50, 100, 5))  # IoU in percent


def average_precision(recall: np.ndarray, precision: np.ndarray, use_07_metric: bool) -> float:
    """Area under the precision-recall curve.

    Args:
        recall: `(n,)`, ascending, in [0, 1].
        precision: `(n,)` in [0, 1].
        use_07_metric: whether to use the 11-point interpolation of VOC 2007 instead of the exact
            area under the curve made monotonic, as from VOC 2010 on.

    Returns:
        Average precision in [0, 1].

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import average_precision

        print(average_precision(np.array([0.5, 1.0]), np.array([1.0, 0.5]), False))  # 0.75
        ```
    """
    if use_07_metric:
        steps = [precision[recall >= t] for t in np.arange(0.0, 1.1, 0.1)]
        return float(np.mean([step.max(initial=0.0) for step in steps]))
    recall = np.concatenate([[0.0], recall, [1.0]])
    precision = np.concatenate([[0.0], precision, [0.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * precision[1:]))


def class_average_precision(
    detections: Sequence[Detections],
    ground_truth: Sequence[Objects],
    label: int,
    thresholds: Sequence[float],
    use_07_metric: bool,
) -> np.ndarray:
    """Average precision of one class at each threshold.

    By decreasing score, a detection is right if the true box that it overlaps most, by more than the
    threshold, has not been detected before; with a difficult one it does not count.

    Args:
        detections: detections of each image.
        ground_truth: objects of each image; the ignored ones are the difficult ones.
        label: index of the class.
        thresholds: T values of IoU in [0, 1].
        use_07_metric: as for `average_precision`.

    Returns:
        `(T,)` in [0, 1]; NaN without an object of the class that counts.
    """
    true_boxes = [one.boxes[one.classes == label] for one in ground_truth]
    is_difficult = np.concatenate([one.is_ignored[one.classes == label] for one in ground_truth])
    total = int((~is_difficult).sum())
    if not total:
        return np.full(len(thresholds), np.nan)
    overlap, match = _best_matches(detections, true_boxes, label)
    values = []
    for threshold in thresholds:
        is_close = overlap > threshold
        does_count = ~(is_close & is_difficult[match])
        # The first detection of an object is right; all others that count are wrong.
        candidates = np.flatnonzero(is_close & does_count)
        _, first = np.unique(match[candidates], return_index=True)
        is_right = np.zeros(len(match), bool)
        is_right[candidates[first]] = True
        right = np.cumsum(is_right)
        precision = right / np.maximum(np.cumsum(does_count), 1)
        values.append(average_precision(right / total, precision, use_07_metric))
    return np.array(values)


def _best_matches(
    detections: Sequence[Detections], true_boxes: Sequence[np.ndarray], label: int
) -> tuple[np.ndarray, np.ndarray]:
    """IoU with, and number of, the true box that each detection overlaps most, by decreasing score.

    True boxes are numbered over all images. Where an image has none, the IoU is 0 and the number has no
    meaning.
    """
    scores, overlaps, matches = [], [], []
    num_before = 0  # true boxes in the images before
    for found, boxes in zip(detections, true_boxes, strict=True):
        is_found = found.classes == label
        iou = _pairwise_iou(found.boxes[is_found], boxes)
        scores.append(found.scores[is_found])
        overlaps.append(iou.max(axis=1, initial=0.0))
        matches.append(num_before + iou.argmax(axis=1) if len(boxes) else np.zeros(len(iou), int))
        num_before += len(boxes)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return np.concatenate(overlaps)[order], np.concatenate(matches)[order]


def voc_scores(
    detections: Sequence[Detections],
    ground_truth: Sequence[Objects],
    class_names: Sequence[str],
    use_07_metric: bool,
) -> dict[str, float]:
    """`AP` (mean over IoU 0.5, 0.55, ... 0.95), `AP50`, `AP75` and each class's AP50.

    Args:
        detections: detections of each image.
        ground_truth: objects of each image.
        class_names: names of the classes; those without an object do not count.
        use_07_metric: as for `average_precision`.

    Returns:
        Average precisions in [0, 1], by name.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import Detections, Objects, voc_scores

        boxes, classes = np.array([[10.0, 10.0, 50.0, 40.0]]), np.array([0])
        detections = Detections(boxes, np.array([0.9]), classes)
        objects = Objects(boxes, classes, np.array([False]), np.array([1200.0]))
        print(voc_scores([detections], [objects], ["cat"], use_07_metric=False))
        ```
    """
    thresholds = [percent / 100 for percent in _THRESHOLDS]
    table = np.array(
        [
            class_average_precision(detections, ground_truth, label, thresholds, use_07_metric)
            for label in range(len(class_names))
        ]
    )
    is_scored = ~np.isnan(table[:, 0])
    means = table[is_scored].mean(axis=0)
    scores = {"AP": means.mean(), "AP50": means[0], "AP75": means[_THRESHOLDS.index(75)]}
    by_class = zip(class_names, table[:, 0], is_scored, strict=True)
    scores |= {f"AP50 {name}": value for name, value, has_ap in by_class if has_ap}
    return {name: float(value) for name, value in scores.items()}


def _pairwise_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of `(n, 4)` boxes with `(m, 4)` others, `(n, m)`."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=2)
    areas, other_areas = (np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (boxes, others))
    return intersection / np.maximum(areas[:, None] + other_areas - intersection, 1e-9)
