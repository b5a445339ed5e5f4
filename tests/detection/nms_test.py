import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.nms import multiclass_non_max_suppression, non_max_suppression
from tests.detection.boxes_test import iou_of, random_boxes


def suppress_by_loop(boxes, scores, threshold, max_outputs):
    kept = []
    for one in np.argsort(-scores):
        if all(iou_of(boxes[one], boxes[other]) <= threshold for other in kept):
            kept.append(one)
    return kept[:max_outputs]


class NmsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((False, 60), (True, 60), (False, 700))
    def test_equals_a_loop(self, jit_compile, count):
        rng = np.random.default_rng(0)
        boxes = np.stack([random_boxes(rng, count) for _ in range(2)])
        scores = rng.normal(size=(2, count)).astype("f")
        is_valid = rng.random((2, count)) < 0.7
        run = tf.function(lambda *x: non_max_suppression(*x, 0.3, 30), jit_compile=jit_compile)
        indices, is_kept = run(boxes, scores, is_valid)
        for b in range(2):
            real = np.flatnonzero(is_valid[b])
            expected = real[suppress_by_loop(boxes[b, real], scores[b, real], 0.3, 30)]
            self.assertAllEqual(indices[b][is_kept[b]], expected)

    def test_nothing_is_valid(self):
        rng = np.random.default_rng(0)
        boxes = random_boxes(rng, 8)[None]
        _, is_kept = non_max_suppression(
            boxes, np.ones((1, 8), "f"), np.zeros((1, 8), bool), 0.5, 20
        )
        self.assertAllEqual(is_kept, np.zeros((1, 8), bool))

    def test_per_class_equals_a_loop(self):
        rng = np.random.default_rng(0)
        boxes = random_boxes(rng, 40 * 3).reshape(1, 40, 3, 4)
        scores = rng.dirichlet(np.ones(4), 40)[None, :, :3].astype("f")
        expected = []
        for label in range(3):
            likely = np.flatnonzero(scores[0, :, label] > 0.05)
            for one in suppress_by_loop(boxes[0, likely, label], scores[0, likely, label], 0.5, 99):
                expected.append((scores[0, likely[one], label], label, likely[one]))
        expected = sorted(expected, reverse=True)
        outputs = [
            x.numpy()[0] for x in multiclass_non_max_suppression(boxes, scores, 0.05, 0.5, 200)
        ]
        kept_boxes, kept_scores, classes, proposals = outputs
        count = len(expected)
        self.assertAllEqual(kept_scores[count:], np.zeros(len(kept_scores) - count))
        self.assertAllClose(kept_scores[:count], [one[0] for one in expected])
        self.assertAllEqual(classes[:count], [one[1] for one in expected])
        self.assertAllEqual(proposals[:count], [one[2] for one in expected])
        self.assertAllEqual(kept_boxes, boxes[0, proposals, classes])
        best = multiclass_non_max_suppression(boxes, scores, 0.05, 0.5, 10)
        self.assertAllClose(best[1][0], kept_scores[:10])

    def test_boxes_of_many_classes_are_compared_exactly(self):
        # Two boxes of the last of 1,200 classes, with an IoU of 0.497, in an image of 1,333 pixels.
        boxes = np.zeros((1, 2, 1200, 4), "f")
        boxes[0, :, -1] = [[0, 0, 10, 10], [3.36, 0, 13.36, 10]]
        boxes[0, :, 0] = [0, 0, 1333, 800]
        scores = np.zeros((1, 2, 1200), "f")
        scores[0, :, -1] = [0.9, 0.8]
        _, kept, classes, _ = multiclass_non_max_suppression(boxes, scores, 0.05, 0.5, 10)
        self.assertAllClose(kept[0, :2], [0.9, 0.8])
        self.assertAllEqual(classes[0, :2], [1199, 1199])


if __name__ == "__main__":
    tf.test.main()
