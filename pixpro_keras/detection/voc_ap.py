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
    threshold: float,
    use_07_metric: bool,
) -> float:
    """Average precision of one class.

    By decreasing score, a detection is right if the true box that it overlaps most, by more than the
    threshold, has not been detected before; with a difficult one it does not count.

    Args:
        detections: detections of each image.
        ground_truth: objects of each image; the ignored ones are the difficult ones.
        label: index of the class.
        threshold: IoU in [0, 1].
        use_07_metric: as for `average_precision`.

    Returns:
        Average precision in [0, 1]; NaN without an object of the class that counts.
    """
    true_boxes = [one.boxes[one.classes == label] for one in ground_truth]
    difficult = [one.is_ignored[one.classes == label] for one in ground_truth]
    total = sum(int((~one).sum()) for one in difficult)
    if not total:
        return float("nan")
    scores = np.concatenate([one.scores[one.classes == label] for one in detections])
    boxes = np.concatenate([one.boxes[one.classes == label] for one in detections])
    counts = [int((one.classes == label).sum()) for one in detections]
    images = np.repeat(np.arange(len(detections)), counts)
    is_matched = [np.zeros(len(one), bool) for one in true_boxes]
    right, wrong = np.zeros(len(scores)), np.zeros(len(scores))
    for rank, index in enumerate(np.argsort(-scores, kind="stable")):
        image = images[index]
        overlaps = _iou(boxes[index], true_boxes[image])
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] <= threshold or is_matched[image][best]:
            wrong[rank] = 1
        elif not difficult[image][best]:
            right[rank] = 1
            is_matched[image][best] = True
    right, wrong = np.cumsum(right), np.cumsum(wrong)
    precision = right / np.maximum(right + wrong, 1e-9)
    return average_precision(right / total, precision, use_07_metric)


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
    table = np.array(
        [
            [
                class_average_precision(detections, ground_truth, label, t / 100, use_07_metric)
                for t in _THRESHOLDS
            ]
            for label in range(len(class_names))
        ]
    )
    table = table[~np.isnan(table[:, 0])]
    names = [
        name
        for label, name in enumerate(class_names)
        if any((~one.is_ignored[one.classes == label]).any() for one in ground_truth)
    ]
    means = table.mean(axis=0)
    scores = {"AP": means.mean(), "AP50": means[0], "AP75": means[_THRESHOLDS.index(75)]}
    scores |= {f"AP50 {name}": value for name, value in zip(names, table[:, 0], strict=True)}
    return {name: float(value) for name, value in scores.items()}


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box with `n` others, `(n,)`."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return intersection / np.maximum(areas - intersection, 1e-9)
