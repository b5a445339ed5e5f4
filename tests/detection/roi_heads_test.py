import numpy as np
import tensorflow as tf

from pixpro_keras.detection import boxes as box_math
from pixpro_keras.detection.roi_heads import (
    BOX_WEIGHTS,
    BoxPredictor,
    postprocess_detections,
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
        is_valid = self.rng.random((2, 40)) < 0.9
        return sample_rois(proposals, is_valid, self.batch, num_rois, K)

    def test_sampled_proposals(self):
        rois = self.sample()
        boxes, classes, positive = (x.numpy() for x in (rois.boxes, rois.classes, rois.is_positive))
        self.assertAllEqual(rois.is_valid, np.ones((2, 16)))
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
        self.assertAllEqual(tf.reduce_sum(rois.is_valid, 1), [4, 2])
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
                    target = box_math.encode_boxes(true, rois.boxes[b, r], BOX_WEIGHTS)
                    box_loss += np.abs(deltas[b, r, label] - target).sum()
        self.assertAllClose(found["box_class"], np.mean(class_loss), rtol=1e-4)
        self.assertAllClose(found["box"], box_loss / 32, rtol=1e-4)
        self.assertAllClose(found["class_accuracy"], np.mean(right))
        self.assertAllClose(found["positive_rois"], 4.0)

    def test_detections_of_a_perfect_head(self):
        proposals = self.true[:1, :3] + np.array([2, -1, 1, 3], "f")
        proposals = np.concatenate([proposals, proposals + 0.5], axis=1)
        deltas = box_math.encode_boxes(self.true[:1, [0, 1, 2] * 2], proposals, BOX_WEIGHTS)
        deltas = np.repeat(deltas[:, :, None], K, axis=2)
        logits = np.zeros((1, 6, K + 1), "f")
        for r, label in enumerate([0, 2, 1] * 2):
            logits[0, r, label] = 6 + r / 10
        is_valid = np.array([[True] * 5 + [False]])
        sizes = np.array([[200.0, 200.0]], "f")
        found = postprocess_detections(logits, deltas, proposals, is_valid, sizes)
        count = int((found["scores"][0] > 0.5).numpy().sum())
        self.assertEqual(count, 3)
        self.assertAllEqual(found["classes"][0, :3], [2, 0, 1])
        self.assertAllClose(found["boxes"][0, :3], self.true[0, [1, 0, 2]], atol=1e-3)

    def test_a_box_outside_of_the_image_is_no_detection(self):
        proposals = np.array([[[90, 10, 100, 20], [40, 10, 50, 20]]], "f")
        logits = np.zeros((1, 2, K + 1), "f")
        logits[:, :, 1] = 6.0
        # Moved to the right by 1.5 of its width: the first is then outside.
        deltas = np.zeros((1, 2, K, 4), "f")
        deltas[..., 0] = 1.5 * BOX_WEIGHTS[0]
        is_valid, sizes = np.ones((1, 2), bool), np.array([[100.0, 100.0]], "f")
        found = postprocess_detections(logits, deltas, proposals, is_valid, sizes)
        is_found = found["scores"][0] > 0
        self.assertAllClose(found["boxes"][0][is_found], [[55, 10, 65, 20]])

    def test_predictor_is_rebuilt_from_its_config(self):
        config = BoxPredictor(K, name="predictor").get_config()
        self.assertEqual(BoxPredictor.from_config(config).get_config(), config)


if __name__ == "__main__":
    tf.test.main()
