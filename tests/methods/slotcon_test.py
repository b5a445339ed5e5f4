import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import geometry
from pixpro_keras.methods import SlotCon
from pixpro_keras.optimizers import SGD
from tests.helpers.tiny_networks import random_batch, tiny_backbone
from tests.layers.roi_align_test import oracle

TINY = {"hidden_dim": 16, "out_dim": 8, "num_slots": 6, "total_steps": 20}


def build(**kwargs):
    keras.utils.set_random_seed(0)
    method = SlotCon(tiny_backbone(), **(TINY | kwargs))
    method.compile(optimizer=SGD(0.1, 0.9, l2_decay=0.0), jit_compile=False)
    method.optimizer.build(method.trainable_variables)
    return method


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


class SlotConTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.batch = random_batch()

    def test_equals_a_loop(self):
        method = build(group_weight=0.3)
        for weight in method.encoder.trainable_variables:
            weight.assign_add(0.05 * tf.ones_like(weight))  # else both networks are the same
        method.center.assign(np.linspace(-0.1, 0.1, 6))
        boxes = geometry.common_boxes(self.batch["coord1"], self.batch["coord2"])
        overlaps = boxes[2].numpy()
        self.assertAllInSet(overlaps, [0, 1])
        self.assertIn(0, overlaps)  # of the pair without a common part, and chance
        groups = {"online": method.encoder, "target": method.target_encoder}
        outputs = {
            (name, view): {
                key: value.numpy()
                for key, value in encoder(self.batch[f"view{view}"])["grouping"].items()
            }
            for name, encoder in groups.items()
            for view in (1, 2)
        }
        aligned = {}
        for (name, view), one in outputs.items():
            box = 4 * boxes[view - 1].numpy()[:, None]
            scores = oracle(one["scores"], box, 4, 1)[:, 0]
            coord = self.batch[f"coord{view}"]
            aligned[name, view] = np.stack(
                [s[:, ::-1] if c[0] > c[2] else s for s, c in zip(scores, coord, strict=True)]
            ).reshape(8, 16, 6)
        group = slot = 0.0
        for query_view, key_view in ((1, 2), (2, 1)):
            for b in range(8):
                for i in range(16):
                    teacher = aligned["target", key_view][b, i] - np.linspace(-0.1, 0.1, 6)
                    student = np.log(softmax(aligned["online", query_view][b, i] / 0.1))
                    group -= overlaps[b] * softmax(teacher / 0.07) @ student / (8 * 16)
            query, key = outputs["online", query_view], outputs["target", key_view]
            in_q, in_k = (
                [set(one["scores"][b].reshape(16, 6).argmax(1)) for b in range(8)]
                for one in (query, key)
            )
            keys = unit(np.concatenate([key["slots"][b, sorted(in_k[b])] for b in range(8)]))
            losses = []
            for b in range(8):
                for k in sorted(in_q[b] & in_k[b]):
                    one = np.ones((1, 1), "float32")
                    predicted = method.predictor(query["slots"][None, b, k][None], one)
                    predicted = unit(predicted.numpy()[0, 0])
                    logits = keys @ predicted / 0.2
                    positive = predicted @ unit(key["slots"][b, k]) / 0.2
                    losses.append(2 * 0.2 * (np.log(np.exp(logits).sum()) - positive))
            slot += np.mean(losses)
        found = method(self.batch)
        self.assertAllClose(found["group"], 0.3 * group, rtol=1e-4)
        self.assertAllClose(found["slot"], 0.7 * slot, rtol=1e-4)

    def test_center_follows_the_teachers_scores(self):
        method = build(center_momentum=0.8)
        scores = [
            method.target_encoder(self.batch[view], training=True)["grouping"]["scores"]
            for view in ("view1", "view2")
        ]
        method(self.batch, training=True)
        self.assertAllClose(method.center, 0.2 * np.mean(scores, axis=(0, 1, 2, 3)), atol=1e-5)

    @pytest.mark.slow
    def test_learns_a_tiny_set(self):
        batch = self.batch | {"view2": self.batch["view1"] + 0.05 * self.batch["view2"]}
        batch["coord2"] = batch["coord1"]
        batch = {key: tf.constant(value) for key, value in batch.items()}
        method = build(base_momentum=0.9, total_steps=2000)
        step = tf.function(method.train_step)
        first = {name: float(value) for name, value in step(batch).items()}
        for _ in range(350):
            logs = step(batch)
        # Both views agree on each place; slots find themselves among those of the other images.
        self.assertLess(float(logs["group"]), 0.1 * first["group"])
        self.assertLess(float(logs["slot"]), 0.5 * first["slot"])
        self.assertGreater(float(logs["slot_top1"]), 0.2)
        self.assertGreater(float(logs["num_slots"]), 2.0)

    @parameterized.parameters(
        ({"group_weight": 2}, "group_weight=2"),
        ({"center_momentum": -1}, "center_momentum=-1"),
        ({"temperature": 0}, "temperature=0"),
        ({"num_slots": 0}, "num_slots=0"),
    )
    def test_bad_arguments(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            build(**arguments)


if __name__ == "__main__":
    tf.test.main()
