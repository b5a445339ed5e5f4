import numpy as np
import tensorflow as tf

from pixpro_keras.detection.mask_head import MaskHead, mask_loss, mask_targets
from pixpro_keras.detection.roi_heads import Rois

K = 3


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

    def test_batch_norm_sees_valid_boxes_only(self):
        head = MaskHead(K, 2)
        head.build((None, None, 3, 3, 4))
        inputs = np.random.default_rng(0).normal(size=(2, 3, 3, 3, 4)).astype("f")
        is_valid = np.array([[1, 1, 0], [1, 0, 0]], "f")
        found = head(inputs, is_valid, training=True)
        self.assertEqual(found.shape, (2, 3, 6, 6, K))
        statistics = [w.numpy() for w in head.non_trainable_weights]
        other = inputs.copy()
        other[is_valid == 0] = 9.0
        for weight, value in zip(head.non_trainable_weights, statistics, strict=True):
            weight.assign(tf.zeros_like(value) if "mean" in weight.path else tf.ones_like(value))
        again = head(other, is_valid, training=True)
        self.assertAllClose(again[is_valid == 1], found[is_valid == 1], atol=1e-5)
        for weight, value in zip(head.non_trainable_weights, statistics, strict=True):
            self.assertAllClose(weight, value, atol=1e-5)

    def test_enlarging_equals_keras_transposed_convolution(self):
        head = MaskHead(K, 0)
        head.build((None, None, 5, 5, 4))
        rng = np.random.default_rng(0)
        for weight in head.weights:
            weight.assign(rng.normal(size=weight.shape))
        inputs = rng.normal(size=(2, 3, 5, 5, 4)).astype("f")
        expected = head.masks(head.enlarge(inputs.reshape(6, 5, 5, 4)))
        found = head(inputs, np.ones((2, 3), "f"))
        self.assertAllClose(found, np.reshape(expected, (2, 3, 10, 10, K)), rtol=1e-4, atol=1e-4)

    def test_is_rebuilt_from_its_config(self):
        config = MaskHead(K, 2, 0.8, name="masks").get_config()
        self.assertEqual(MaskHead.from_config(config).get_config(), config)


if __name__ == "__main__":
    tf.test.main()
