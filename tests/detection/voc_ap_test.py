import numpy as np
import tensorflow as tf

from pixpro_keras.detection.inference import Detections
from pixpro_keras.detection.objects import make_objects
from pixpro_keras.detection.voc_ap import average_precision, class_average_precision, voc_scores

SIZE = (100, 100)


def truth(boxes, classes=None, difficult=None):
    count = len(boxes)
    return make_objects("image", SIZE, boxes, classes or [0] * count, difficult or [False] * count)


def detections(boxes, scores, classes=None):
    boxes = np.array(boxes, "f").reshape(-1, 4)
    return Detections(boxes, np.array(scores, "f"), np.array(classes or [0] * len(boxes), "int32"))


def ap(seen, there, threshold, use_07_metric):
    """Average precision of class 0 at one threshold."""
    (value,) = class_average_precision(seen, there, 0, [threshold], use_07_metric)
    return value


def loop_ap(seen, there, threshold):
    """`voc_eval` of detectron2, from objects in the place of its files."""
    rows = [
        (s, i, b) for i, one in enumerate(seen) for s, b in zip(one.scores, one.boxes, strict=True)
    ]
    is_taken = [np.zeros(len(one.boxes), bool) for one in there]
    hits = []
    for _, image, box in sorted(rows, key=lambda row: -row[0]):
        overlaps = []
        for other in there[image].boxes:
            low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
            common = np.prod(np.maximum(high - low, 0))
            areas = np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2])
            overlaps.append(common / (areas - common))
        best = int(np.argmax(overlaps))
        if overlaps[best] <= threshold:
            hits.append(False)
        elif not there[image].is_ignored[best]:
            hits.append(not is_taken[image][best])
            is_taken[image][best] = True
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    recall = found / sum(np.sum(~one.is_ignored) for one in there)
    steps = np.diff(recall, prepend=0.0)
    return sum(step * precision[n:].max() for n, step in enumerate(steps))


class VocApTest(tf.test.TestCase):
    def test_area_by_hand(self):
        # Right, wrong, right of two objects: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
        recall, precision = np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3])
        self.assertAllClose(average_precision(recall, precision, False), 0.5 + 0.5 * 2 / 3)
        # Recalls 0 to 0.5 are six steps of precision 1, the other five of 2/3.
        self.assertAllClose(average_precision(recall, precision, True), (6 + 5 * 2 / 3) / 11)

    def test_equals_a_loop(self):
        rng = np.random.default_rng(0)
        there, seen = [], []
        for _ in range(20):
            corner, sides = rng.integers(0, 60, (5, 2)), rng.integers(10, 40, (5, 2))
            boxes = np.concatenate([corner, corner + sides], axis=1).astype("f")
            there.append(truth(boxes.tolist(), difficult=(rng.random(5) < 0.2).tolist()))
            moved = np.concatenate([boxes + rng.normal(0, noise, (5, 4)) for noise in (2, 5)])
            seen.append(detections(moved, rng.random(10)))
        thresholds = (0.5, 0.75)
        found = class_average_precision(seen, there, 0, thresholds, False)
        expected = [loop_ap(seen, there, threshold) for threshold in thresholds]
        self.assertAllClose(found, expected, rtol=1e-6)

    def test_scores_order_the_detections(self):
        there = [truth([[0, 0, 10, 10]]), truth([[20, 20, 40, 40]]), truth([])]
        seen = [
            detections([[0, 0, 10, 10]], [0.9]),
            detections([[20, 20, 40, 40]], [0.7]),
            detections([[50, 50, 60, 60]], [0.8]),
        ]
        self.assertAllClose(ap(seen, there, 0.5, False), 0.5 + 0.5 * 2 / 3)
        self.assertAllClose(ap(seen, there, 0.5, True), (6 + 5 * 2 / 3) / 11)

    def test_an_object_found_twice_is_wrong_once(self):
        there = [truth([[0, 0, 10, 10], [20, 20, 40, 40]])]
        seen = [detections([[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 40, 40]], [0.9, 0.8, 0.7])]
        self.assertAllClose(ap(seen, there, 0.5, False), 0.5 + 0.5 * 2 / 3)

    def test_difficult_objects_do_not_count(self):
        there = [truth([[0, 0, 10, 10], [20, 20, 40, 40]], difficult=[True, False])]
        seen = [detections([[0, 0, 10, 10], [0, 0, 10, 10], [20, 20, 40, 40]], [0.9, 0.8, 0.7])]
        self.assertAllClose(ap(seen, there, 0.5, False), 1.0)

    def test_iou_decides(self):
        there = [truth([[0, 0, 10, 10]])]
        seen = [detections([[0, 0, 10, 6.4]], [0.9])]  # IoU 0.64
        scores = voc_scores(seen, there, ["a", "absent"], use_07_metric=False)
        self.assertEqual(list(scores), ["AP", "AP50", "AP75", "AP50 a"])
        self.assertAllClose(scores["AP50"], 1.0)
        self.assertAllClose(scores["AP75"], 0.0)
        self.assertAllClose(scores["AP"], 3 / 10)

    def test_nothing_is_found(self):
        there = [truth([[0, 0, 10, 10]])]
        self.assertAllClose(ap([detections([], [])], there, 0.5, True), 0.0)


if __name__ == "__main__":
    tf.test.main()
