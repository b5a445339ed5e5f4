"""Methods other than PixPro's own against plain NumPy loops."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.methods import (
    BYOL,
    METHOD_ARGUMENTS,
    METHODS,
    DenseCL,
    InfoMin,
    MoCo,
    SimCLR,
    Supervised,
)
from pixpro_keras.optimizers import SGD
from tests.helpers.tiny_networks import random_batch, tiny_backbone

TINY = {"hidden_dim": 32, "out_dim": 8, "total_steps": 20}


def build(cls, **kwargs):
    keras.utils.set_random_seed(0)
    arguments = {name: value for name, value in (TINY | kwargs).items() if value is not None}
    method = cls(tiny_backbone(), **arguments)
    method.compile(optimizer=SGD(0.05, 0.9, l2_decay=0.0), jit_compile=False)
    method.optimizer.build(method.trainable_variables)
    return method


def unit(x):
    x = np.asarray(x, "float64")
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def info_nce(query, positive, negatives, temperature):
    logits = np.concatenate([[query @ positive], negatives @ query]) / temperature
    return np.log(np.exp(logits).sum()) - logits[0]


class LossesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.batch = random_batch()

    def test_simclr(self):
        method = build(SimCLR, temperature=0.5)
        views = np.concatenate([self.batch["view1"], self.batch["view2"]])
        z = unit(method.encoder(views, training=False)["instance"])
        losses = []
        for i in range(16):
            others = [k for k in range(16) if k not in (i, (i + 8) % 16)]
            losses.append(info_nce(z[i], z[(i + 8) % 16], z[others], 0.5))
        found = method(self.batch, training=False)
        # google-research/simclr, objective.py: `loss = loss_a + loss_b`, each a mean over the batch.
        expected = np.mean(losses[:8]) + np.mean(losses[8:])
        self.assertAllClose(found["instance"], expected, rtol=1e-5)

    def test_densecl_begins_as_its_authors_does(self):
        method = build(DenseCL, queue_size=16, hidden_dim=256, out_dim=64)
        image, cells = (method.encoder.heads[name].layers for name in ("instance", "dense"))
        for layer in image:  # openselfsup/models/necks.py: `kaiming_init` of the linear layers
            deviation = np.sqrt(2 / layer.kernel.shape[0])
            self.assertAllClose(np.std(layer.kernel), deviation, rtol=0.1)
            self.assertAllEqual(layer.bias, np.zeros_like(layer.bias))
        for layer in cells:  # ... and the default of the convolutions
            deviation = np.sqrt(1 / 3 / layer.kernel.shape[2])
            self.assertAllClose(np.std(layer.kernel), deviation, rtol=0.1)

    def test_simclr_normalizes_both_views_together(self):
        method = build(SimCLR)
        method(self.batch, training=True)
        norm = method.encoder.backbone.get_layer("bn0")
        views = np.concatenate([self.batch["view1"], self.batch["view2"]])
        convolved = method.encoder.backbone.get_layer("conv0")(views)
        mean = np.mean(convolved, axis=(0, 1, 2))
        self.assertAllClose(norm.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)

    def test_byol(self):
        method = build(BYOL)
        for weight in method.encoder.trainable_variables:
            weight.assign_add(0.1 * tf.ones_like(weight))  # else both networks are the same
        expected = 4.0
        for one, two in (("view1", "view2"), ("view2", "view1")):
            z = method.encoder(self.batch[one], training=False)["instance"]
            p = unit(method.predictor(z, training=False))
            t = unit(method.target_encoder(self.batch[two], training=False)["instance"])
            expected -= 2 * np.mean([p[i] @ t[i] for i in range(8)])
        found = method(self.batch, training=False)
        self.assertAllClose(found["instance"], expected, rtol=1e-5)

    def test_last_layers_of_byol_have_no_bias(self):
        # As in the authors' byol/utils/networks.py. Their hidden layer has one, without effect before batch
        # norm.
        method = build(BYOL)
        for head in (method.encoder.heads["instance"], method.predictor):
            head.layers[0].kernel.assign(tf.zeros_like(head.layers[0].kernel))
            (norm,) = (x for x in head.layers if isinstance(x, keras.layers.BatchNormalization))
            norm.beta.assign(-tf.ones_like(norm.beta))
            # The ReLU sets all to 0.
            vectors = head(tf.ones((2, head.layers[0].kernel.shape[0])), training=False)
            self.assertAllEqual(vectors, tf.zeros((2, 8)))
            self.assertLen(head.trainable_variables, 4)  # two kernels, scale and offset

    def test_moco_and_its_queue(self):
        method = build(MoCo, queue_size=16, temperature=0.2)
        queue = method.queue.read().numpy()
        q = unit(method.encoder(self.batch["view1"], training=False)["instance"])
        k = unit(method.target_encoder(self.batch["view2"], training=False)["instance"])
        losses = [info_nce(q[i], k[i], queue, 0.2) for i in range(8)]
        found = method(self.batch, training=False)
        self.assertAllClose(found["instance"], np.mean(losses), rtol=1e-4)
        self.assertAllEqual(method.queue.read(), queue)  # looked at, not trained on
        # In training the loss is of the queue before, and then the keys are in it.
        method.train_step({key: tf.constant(value) for key, value in self.batch.items()})
        self.assertAllEqual(method.queue.read()[8:], queue[8:])
        self.assertNotAllClose(method.queue.read()[:8], queue[:8])
        self.assertAllClose(np.linalg.norm(method.queue.read(), axis=1), np.ones(16), rtol=1e-5)

    def test_moco_keeps_its_momentum(self):
        method = build(MoCo, queue_size=16, base_momentum=0.9)
        batch = {key: tf.constant(value) for key, value in self.batch.items()}
        momenta = [float(method.train_step(batch)["target_momentum"]) for _ in range(3)]
        self.assertAllClose(momenta, [0.9] * 3)

    def test_versions_of_moco(self):
        sizes = {}
        for name in ("moco", "mocov2"):
            method = build(METHODS[name], **(METHOD_ARGUMENTS.get(name, {}) | {"queue_size": 16}))
            sizes[name] = method.temperature, len(method.encoder.heads["instance"].layers)
        self.assertEqual(sizes, {"moco": (0.07, 1), "mocov2": (0.2, 2)})

    def test_densecl(self):
        method = build(DenseCL, queue_size=16, dense_weight=0.3, temperature=0.5)
        online = method.encoder(self.batch["view1"], training=False)
        target = method.target_encoder(self.batch["view2"], training=False)

        def cells(maps):
            return np.asarray(maps).reshape(8, 16, -1)

        features_q, features_k = unit(cells(online["features"])), unit(cells(target["features"]))
        q, k = unit(cells(online["dense"])), unit(cells(target["dense"]))
        queue = method.dense_queue.read().numpy()
        losses = []
        for b in range(8):
            for i in range(16):
                match = np.argmax([features_q[b, i] @ features_k[b, j] for j in range(16)])
                losses.append(info_nce(q[b, i], k[b, match], queue, 0.5))
        found = method(self.batch, training=False)
        self.assertAllClose(found["dense"], 0.3 * np.mean(losses), rtol=1e-4)
        z, t = unit(online["instance"]), unit(target["instance"])
        instance = [info_nce(z[i], t[i], method.queue.read().numpy(), 0.5) for i in range(8)]
        self.assertAllClose(found["instance"], 0.7 * np.mean(instance), rtol=1e-4)
        # The dense queue takes each image's mean key.
        method.train_step({key: tf.constant(value) for key, value in self.batch.items()})
        self.assertAllClose(np.linalg.norm(method.dense_queue.read(), axis=1), np.ones(16), 1e-5)
        self.assertNotAllClose(method.dense_queue.read()[:8], queue[:8])

    def test_infomin(self):
        method = build(InfoMin, queue_size=16, jigsaw_weight=0.3, temperature=0.5)
        queue = method.queue.read().numpy()
        q = unit(method.encoder(self.batch["view1"], training=False)["instance"])
        k = unit(method.target_encoder(self.batch["view2"], training=False)["instance"])
        puzzles = []
        for patches in self.batch["jigsaw"]:
            maps = method.encoder.backbone(patches, training=False)
            parts = [method.patch_projector(one[None]).numpy()[0] for one in maps.numpy()]
            puzzles.append(unit(method.joint_projector(np.concatenate(parts)[None]))[0])
        found = method(self.batch, training=False)
        expected = 0.7 * np.mean([info_nce(q[i], k[i], queue, 0.5) for i in range(8)])
        self.assertAllClose(found["instance"], expected, rtol=1e-4)
        expected = 0.3 * np.mean([info_nce(puzzles[i], k[i], queue, 0.5) for i in range(8)])
        self.assertAllClose(found["jigsaw"], expected, rtol=1e-4)

    def test_supervised(self):
        method = build(Supervised, num_classes=3, hidden_dim=None, out_dim=None)
        outputs = method.encoder(self.batch["view1"], training=False)
        pooled = outputs["features"].numpy().mean(axis=(1, 2))
        (linear,) = method.encoder.heads["logits"].layers
        losses, hits = [], []
        for b, label in enumerate(self.batch["label"]):
            logits = pooled[b] @ linear.kernel.numpy() + linear.bias.numpy()
            losses.append(np.log(np.exp(logits).sum()) - logits[label])
            hits.append(logits.argmax() == label)
        found = method({"view1": self.batch["view1"], "label": self.batch["label"]})
        self.assertAllClose(found["classification"], np.mean(losses), rtol=1e-5)
        self.assertAllClose(found["top1"], np.mean(hits))

    @parameterized.parameters(
        # No negatives, or far away ones: nothing is left of the loss.
        ("simclr", {}, 0.0, 0.2),
        ("byol", {}, 0.0, 0.2),
        # The queue holds each image's key twice, so that three candidates are the right one.
        ("moco", {"queue_size": 16}, np.log(3), 0.1),
        ("densecl", {"queue_size": 16}, np.log(3) / 2, 0.1),
        ("infomin", {"queue_size": 16}, np.log(3) / 2, 0.1),
    )
    @pytest.mark.slow
    def test_reaches_its_optimum_on_a_tiny_set(self, name, arguments, optimum, tolerance):
        # The two views are the same but for noise.
        batch = self.batch | {"view2": self.batch["view1"] + 0.05 * self.batch["view2"]}
        batch = {key: tf.constant(value) for key, value in batch.items()}
        if name != "byol":
            arguments = arguments | {"temperature": 0.1}
        method = build(METHODS[name], base_momentum=0.9, **arguments)
        step = tf.function(method.train_step)
        for _ in range(200):
            logs = step(batch)
        self.assertNear(float(logs["instance"]), optimum, tolerance)
        if name != "byol":
            self.assertEqual(float(logs["instance_top1"]), 1.0)

    def test_supervised_overfits_a_tiny_set(self):
        method = build(Supervised, num_classes=3, hidden_dim=None, out_dim=None)
        batch = {key: tf.constant(value) for key, value in self.batch.items()}
        step = tf.function(method.train_step)
        for _ in range(150):
            logs = step(batch)
        self.assertLess(float(logs["classification"]), 0.05)
        self.assertEqual(float(logs["top1"]), 1.0)

    @parameterized.parameters(
        (SimCLR, {"temperature": 0}, "temperature=0"),
        (MoCo, {"temperature": -1}, "temperature=-1"),
        (DenseCL, {"dense_weight": 2}, "dense_weight=2"),
        (InfoMin, {"jigsaw_weight": -1}, "jigsaw_weight=-1"),
        (Supervised, {"num_classes": 1, "hidden_dim": None, "out_dim": None}, "num_classes=1"),
    )
    def test_bad_arguments(self, cls, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            build(cls, **arguments)


if __name__ == "__main__":
    tf.test.main()
