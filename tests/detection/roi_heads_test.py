import numpy as np
import tensorflow as tf

from pixpro_keras.detection import boxes as box_math
from pixpro_keras.detection.mask_head import MaskHead, mask_loss, mask_targets
from pixpro_keras.detection.roi_heads import (
    BOX_WEIGHTS,
    Rois,
    find_objects,
    roi_losses,
    sample_rois,
)
from tests.detection.boxes_test import iou_of, random_boxes

K = 3


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


class RoiHeadsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)
        self.true = np.stack([random_boxes(self.rng, 4) for _ in range(2)])
        self.true[1, 2:] = 0
        self.batch = {
            "boxes": self.true,
            "classes": np.array([[0, 2, 1, 0], [1, 1, -1, -1]]),
            "seed": tf.constant([[0, 1], [0, 2]]),
        }

    def sample(self, num_rois=16):
        near = self.true[:, :2].repeat(5, axis=1) + self.rng.normal(size=(2, 10, 4), scale=2)
        far = np.stack([random_boxes(self.rng, 30) for _ in range(2)])
        proposals = np.concatenate([near, far], axis=1).astype("f")
        is_real = self.rng.random((2, 40)) < 0.9
        return sample_rois(proposals, is_real, self.batch, num_rois, K)

    def test_sampled_proposals(self):
        rois = self.sample()
        boxes, classes, positive = (x.numpy() for x in (rois.boxes, rois.classes, rois.is_positive))
        self.assertAllEqual(rois.counts, np.ones((2, 16)))
        self.assertAllEqual(positive, np.broadcast_to(np.arange(16) < 4, (2, 16)))
        for b in range(2):
            real = self.batch["classes"][b] >= 0
            for box, label, which, is_positive in zip(
                boxes[b], classes[b], rois.matches[b].numpy(), positive[b], strict=True
            ):
                iou = [iou_of(box, one) for one in self.true[b][real]]
                self.assertEqual(max(iou) >= 0.5, bool(is_positive))
                expected = self.batch["classes"][b][which] if is_positive else K
                self.assertEqual(label, expected)
                self.assertAllClose(iou[which], max(iou), rtol=1e-5)

    def test_true_boxes_are_among_the_proposals(self):
        nothing = np.zeros((2, 40, 4), "f"), np.zeros((2, 40), bool)
        rois = sample_rois(*nothing, self.batch, 16, K)
        self.assertAllEqual(tf.reduce_sum(rois.is_positive, 1), [4, 2])
        self.assertAllEqual(tf.reduce_sum(rois.counts, 1), [4, 2])
        found = sorted(rois.boxes[1, :2].numpy().tolist())
        self.assertAllClose(found, sorted(self.true[1, :2].tolist()))

    def test_losses_equal_a_loop(self):
        rois = self.sample()
        logits = self.rng.normal(size=(2, 16, K + 1)).astype("f")
        deltas = self.rng.normal(size=(2, 16, K, 4)).astype("f")
        found = roi_losses(logits, deltas, rois, self.batch)
        class_loss, box_loss, right = [], 0.0, []
        for b in range(2):
            for r in range(16):
                label = int(rois.classes[b, r])
                class_loss.append(-np.log(softmax(logits[b, r])[label]))
                right.append(logits[b, r].argmax() == label)
                if label < K:
                    true = self.true[b, int(rois.matches[b, r])]
                    target = box_math.encode(true, rois.boxes[b, r], BOX_WEIGHTS)
                    box_loss += np.abs(deltas[b, r, label] - target).sum()
        self.assertAllClose(found["box_class"], np.mean(class_loss), rtol=1e-4)
        self.assertAllClose(found["box"], box_loss / 32, rtol=1e-4)
        self.assertAllClose(found["class_accuracy"], np.mean(right))
        self.assertAllClose(found["positive_rois"], 4.0)

    def test_detections_of_a_perfect_head(self):
        proposals = self.true[:1, :3] + np.array([2, -1, 1, 3], "f")
        proposals = np.concatenate([proposals, proposals + 0.5], axis=1)
        deltas = box_math.encode(self.true[:1, [0, 1, 2] * 2], proposals, BOX_WEIGHTS)
        deltas = np.repeat(deltas[:, :, None], K, axis=2)
        logits = np.zeros((1, 6, K + 1), "f")
        for r, label in enumerate([0, 2, 1] * 2):
            logits[0, r, label] = 6 + r / 10
        is_real = np.array([[True] * 5 + [False]])
        sizes = np.array([[200.0, 200.0]], "f")
        found = find_objects(logits, deltas, proposals, is_real, sizes)
        count = int((found["scores"][0] > 0.5).numpy().sum())
        self.assertEqual(count, 3)
        self.assertAllEqual(found["classes"][0, :3], [2, 0, 1])
        self.assertAllClose(found["boxes"][0, :3], self.true[0, [1, 0, 2]], atol=1e-3)


class MaskHeadTest(tf.test.TestCase):
    def rois(self, boxes, classes, matches):
        classes = np.array(classes)
        positive = (classes < K).astype("f")
        return Rois(np.array(boxes, "f"), classes, np.array(matches), positive, positive * 0 + 1)

    def test_targets_are_what_lies_in_the_box(self):
        # The left half of a true box; a proposal of its right three quarters, and the box itself.
        bitmap = np.zeros((1, 1, 112, 112), np.uint8)
        bitmap[..., :56] = 1
        batch = {"boxes": np.array([[[10, 20, 50, 60]]], "f"), "masks": bitmap}
        rois = self.rois([[[20, 20, 50, 60], [10, 20, 50, 60]]], [[0, 0]], [[0, 0]])
        targets = mask_targets(rois, batch, 2, 12)
        self.assertAllEqual(targets[0, 0], np.tile(np.arange(12) < 4, (12, 1)))
        self.assertAllEqual(targets[0, 1], np.tile(np.arange(12) < 6, (12, 1)))

    def test_loss_equals_a_loop(self):
        rng = np.random.default_rng(0)
        batch = {
            "boxes": np.array([[[10, 20, 50, 60], [0, 0, 30, 30]]], "f"),
            "masks": (rng.random((1, 2, 112, 112)) < 0.5).astype("uint8"),
        }
        boxes = [[[12, 22, 45, 55], [0, 0, 30, 30], [60, 60, 70, 70], [1, 1, 5, 5]]]
        rois = self.rois(boxes, [[2, 0, K, K]], [[0, 1, 0, 0]])
        logits = rng.normal(size=(1, 3, 14, 14, K)).astype("f")
        targets = mask_targets(rois, batch, 3, 14).numpy()
        losses = []
        for p, label in enumerate((2, 0)):
            for row in range(14):
                for column in range(14):
                    x = logits[0, p, row, column, label]
                    sign = 1 if targets[0, p, row, column] else -1
                    losses.append(np.log1p(np.exp(-sign * x)))
        self.assertAllClose(mask_loss(logits, rois, batch), np.mean(losses), rtol=1e-5)

    def test_batch_norm_sees_only_what_counts(self):
        head = MaskHead(K, 2)
        head.build((None, None, 3, 3, 4))
        inputs = np.random.default_rng(0).normal(size=(2, 3, 3, 3, 4)).astype("f")
        counts = np.array([[1, 1, 0], [1, 0, 0]], "f")
        found = head(inputs, counts, training=True)
        self.assertEqual(found.shape, (2, 3, 6, 6, K))
        statistics = [w.numpy() for w in head.non_trainable_weights]
        other = inputs.copy()
        other[counts == 0] = 9.0
        for weight, value in zip(head.non_trainable_weights, statistics, strict=True):
            weight.assign(tf.zeros_like(value) if "mean" in weight.path else tf.ones_like(value))
        again = head(other, counts, training=True)
        self.assertAllClose(again[counts == 1], found[counts == 1], atol=1e-5)
        for weight, value in zip(head.non_trainable_weights, statistics, strict=True):
            self.assertAllClose(weight, value, atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
