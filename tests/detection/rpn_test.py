import numpy as np
import tensorflow as tf

from pixpro_keras.detection import boxes as box_math
from pixpro_keras.detection.anchors import grid_anchors
from pixpro_keras.detection.rpn import RPN, generate_proposals, rpn_losses
from tests.detection.boxes_test import iou_of, random_boxes
from tests.detection.matching_test import match_by_loop
from tests.detection.nms_test import suppress_by_loop


class RpnTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)
        self.anchors = grid_anchors(3, 4, 16, (16, 32))  # 72 of them
        count = len(self.anchors)
        self.logits = self.rng.normal(size=(2, count)).astype("f")
        self.deltas = self.rng.normal(size=(2, count, 4), scale=0.3).astype("f")

    def test_losses_equal_a_loop(self):
        true = np.zeros((2, 3, 4), "f")
        num_valid = (3, 1)
        for b, count in enumerate(num_valid):
            true[b, :count] = random_boxes(self.rng, count, 50)
        classes = np.where(np.arange(3) < np.array(num_valid)[:, None], 0, -1)
        sizes = np.array([[48, 64], [33, 49]], "f")  # all centers are inside
        batch = {"boxes": true, "classes": classes, "size": sizes}
        batch["seed"] = tf.constant([[0, 1], [0, 2]])
        found = rpn_losses(self.logits, self.deltas, self.anchors, batch)
        objectness = distance = 0.0
        # There are fewer anchors than are sampled, and few positives: all that are not ignored count.
        for b, count in enumerate(num_valid):
            iou = np.array([[iou_of(t, a) for a in self.anchors] for t in true[b, :count]])
            for n, (which, label) in enumerate(
                zip(*match_by_loop(iou, 0.3, 0.7, True), strict=True)
            ):
                if label < 0:
                    continue
                logit = self.logits[b, n]
                objectness += np.log1p(np.exp(-logit if label else logit))
                if label:
                    target = box_math.encode_boxes(true[b, which], self.anchors[n], (1.0,) * 4)
                    distance += np.abs(self.deltas[b, n] - target).sum()
        self.assertGreater(distance, 0)
        self.assertAllClose(found["rpn_objectness"], objectness / 512, rtol=1e-4)
        self.assertAllClose(found["rpn_box"], distance / 512, rtol=1e-4)

    def test_proposals_equal_a_loop(self):
        parts = [self.anchors[:40], self.anchors[40:]]
        logits = [self.logits[:, :40], self.logits[:, 40:]]
        deltas = [self.deltas[:, :40], self.deltas[:, 40:]]
        sizes = np.array([[40.0, 60.0], [48.0, 50.0]], "f")
        boxes, is_valid = generate_proposals(
            logits, deltas, parts, sizes, pre_nms_top_k=20, post_nms_top_k=12
        )
        self.assertEqual(boxes.shape, (2, 12, 4))
        for b in range(2):
            expected = []
            for part, level_logits, level_deltas in zip(parts, logits, deltas, strict=True):
                best = np.argsort(-level_logits[b])[:20]
                decoded = box_math.decode_boxes(level_deltas[b, best], part[best], (1.0,) * 4)
                decoded = box_math.clip_boxes(decoded[None], sizes[b : b + 1])[0].numpy()
                scores = level_logits[b, best]
                with_area = np.flatnonzero((decoded[:, 2:] > decoded[:, :2]).all(1))
                decoded, scores = decoded[with_area], scores[with_area]
                for one in suppress_by_loop(decoded, scores, 0.7, 12):
                    expected.append((scores[one], decoded[one]))
            expected = sorted(expected, key=lambda pair: -pair[0])[:12]
            self.assertAllEqual(is_valid[b], np.arange(12) < len(expected))
            self.assertAllClose(boxes[b][is_valid[b]], [box for _, box in expected], atol=1e-4)

    def test_anchors_centered_in_the_padding_do_not_count(self):
        # Of the last row, the image holds the anchors' upper halves, but not their centers.
        inside = np.arange(72) < 48
        box = np.array([[[40, 24, 60, 32]]], "f")
        batch = {"boxes": box, "classes": np.zeros((1, 1), int), "seed": tf.constant([[0, 1]])}
        whole, upper = {"size": np.array([[48, 64]], "f")}, {"size": np.array([[32, 64]], "f")}

        def losses(anchors, size, chosen=slice(None)):
            logits, deltas = self.logits[:1, chosen], self.deltas[:1, chosen]
            return rpn_losses(logits, deltas, anchors, batch | size)

        found, expected = losses(self.anchors, upper), losses(self.anchors[inside], whole, inside)
        self.assertAllClose(found, expected)
        self.assertNotAllClose(found, losses(self.anchors, whole))

        arguments = [self.logits[:1]], [self.deltas[:1]], [self.anchors]
        boxes, is_valid = generate_proposals(*arguments, upper["size"], 60, 60)
        arguments = [[x[0][:, inside]] for x in arguments[:2]]
        few, are_valid = generate_proposals(
            *arguments, [self.anchors[inside]], upper["size"], 60, 60
        )
        self.assertAllClose(boxes[is_valid], few[are_valid])

    def test_outputs_are_in_the_anchors_order(self):
        rpn = RPN(3)
        rpn.build((None, None, None, 2))
        features = self.rng.normal(size=(1, 2, 3, 2)).astype("f")
        logits, deltas = rpn(features)
        hidden = rpn.hidden(features)
        self.assertAllClose(logits[0], np.ravel(rpn.objectness(hidden)[0]))
        self.assertAllClose(deltas[0, 3 * 4 + 1], rpn.shift(hidden)[0, 1, 1, 4:8])

    def test_is_rebuilt_from_its_config(self):
        config = RPN(5, name="proposals").get_config()
        self.assertEqual(RPN.from_config(config).get_config(), config)


if __name__ == "__main__":
    tf.test.main()
