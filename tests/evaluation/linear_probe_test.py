import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.backbones import feature_network
from pixpro_keras.backbones.dtype_policies import global_policy
from pixpro_keras.evaluation.linear_probe import LinearProbe, feature_batches
from pixpro_keras.optimizers import SGD
from tests.helpers.tiny_networks import random_batch, tiny_backbone


def build(factors=(1.0,), learning_rate=0.5, num_classes=3, **kwargs):
    keras.utils.set_random_seed(0)
    probe = LinearProbe(tiny_backbone(), num_classes, factors, **kwargs)
    probe.compile(optimizer=SGD(learning_rate, 0.9, l2_decay=0.0), jit_compile=False)
    probe.optimizer.build(probe.trainable_variables)
    return probe


class LinearProbeTest(tf.test.TestCase, parameterized.TestCase):
    def test_logits_and_loss_equal_a_loop(self):
        probe, batch = build((1.0, 0.1)), random_batch()
        maps = probe.backbone(batch["view1"], training=False).numpy()
        expected = 0.0
        for head, factor in enumerate((1.0, 0.1)):
            losses = []
            for b, label in enumerate(batch["label"]):
                logits = maps[b].mean((0, 1)) @ probe.kernels.numpy()[head]
                logits = logits + probe.biases.numpy()[head]
                losses.append(np.log(np.exp(logits).sum()) - logits[label])
            expected += factor * np.mean(losses)
        self.assertAllClose(probe(batch)["classification"], expected, rtol=1e-5)

    @parameterized.parameters("mixed_bfloat16", "mixed_float16")
    def test_what_is_trained_is_what_is_tested_in_any_precision(self, policy):
        with global_policy(policy):
            probe = build()
        features = np.random.default_rng(0).random((4, probe.kernels.shape[1]), "float32")
        labels = np.array([0, 1, 2, 0])
        logits = probe.logits(features)[0].numpy().astype("float64")
        expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(4), labels]
        found = probe({"features": features, "label": labels}, training=True)
        self.assertAllClose(found["classification"], expected.mean(), rtol=1e-6)

    def test_a_saved_probe_gives_the_same_and_is_trained_on(self):
        probe, batch = build((1.0, 0.1)), random_batch()
        path = f"{self.create_tempdir().full_path}/probe.keras"
        probe.save(path)
        loaded = keras.saving.load_model(path)
        self.assertEqual(loaded.learning_rate_factors, (1.0, 0.1))
        self.assertLen(loaded.trainable_variables, 2)
        self.assertAllEqual(loaded(batch)["classification"], probe(batch)["classification"])
        before = probe.kernels.numpy()
        for one in (probe, loaded):
            one.train_step(batch)
        self.assertAllClose(loaded.kernels, probe.kernels)
        self.assertNotAllClose(loaded.kernels, before)

    def test_a_backbone_without_a_map_is_refused(self):
        pooled = feature_network(tiny_backbone(), "pooled")
        with self.assertRaisesRegex(ValueError, r"must return a map .*\(None, 16\)"):
            LinearProbe(pooled, 3)

    def test_batches_without_labels_are_refused(self):
        batch = random_batch()
        with self.assertRaisesRegex(ValueError, "keys view1, label. .*without label"):
            build().train_step({"view1": batch["view1"]})

    def test_labels_in_a_column_are_refused(self):
        # As many values as images, but each would be compared with the predictions of all.
        batch = random_batch()
        batch["label"] = batch["label"][:, None]
        with self.assertRaisesRegex(ValueError, r"`label` must have .*shape=\(8, 1\)"):
            build().train_step(batch)

    def test_only_the_classifiers_are_trained(self):
        probe = build()
        backbone = [w.numpy() for w in probe.backbone.weights]
        batch = {key: tf.constant(value) for key, value in random_batch().items()}
        step = tf.function(probe.train_step)
        for _ in range(3):
            step(batch)
        for before, after in zip(backbone, probe.backbone.weights, strict=True):
            self.assertAllEqual(before, after)  # batch-norm statistics too
        self.assertLen(probe.trainable_variables, 2)

    def test_batch_statistics_are_those_of_the_release(self):
        """As of its `main_linear.py`: `model.train()` with parameters that have no gradient."""
        probe, batch = build(batch_statistics=True), random_batch()
        self.assertLen(probe.trainable_variables, 2)
        weights = {v.path: v.numpy() for v in probe.backbone.weights}
        normalized = probe.backbone(batch["view1"], training=False).numpy()
        convolved = probe.backbone.get_layer("conv0")(batch["view1"]).numpy()
        step = tf.function(probe.train_step)
        step({key: tf.constant(value) for key, value in batch.items()})
        norm = probe.backbone.get_layer("bn0")
        mean, variance = convolved.mean((0, 1, 2)), convolved.var((0, 1, 2))
        self.assertAllClose(norm.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
        self.assertAllClose(norm.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)
        for variable in probe.backbone.weights:
            is_same = np.array_equal(variable, weights[variable.path])
            self.assertEqual(is_same, "moving" not in variable.path, variable.path)
        # The test is in inference mode, with the new statistics.
        found = probe.pool(batch["view1"])
        expected = probe.backbone(batch["view1"], training=False).numpy()
        self.assertAllClose(found, expected.mean((1, 2)), rtol=1e-5)
        self.assertNotAllClose(expected, normalized)

    def test_a_factor_is_a_learning_rate(self):
        batch = {key: tf.constant(value) for key, value in random_batch().items()}
        together, alone = build((1.0, 0.2)), build((1.0,), learning_rate=0.1)
        alone.kernels.assign(together.kernels[1:])
        for probe in (together, alone):
            step = tf.function(probe.train_step)
            for _ in range(5):
                step(batch)
        self.assertAllClose(together.kernels[1], alone.kernels[0], atol=1e-6)
        self.assertAllClose(together.biases[1], alone.biases[0], atol=1e-6)

    def test_separates_separable_features(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 60).astype("int32")
        features = (np.eye(16)[labels] + 0.1 * rng.normal(size=(60, 16))).astype("float32")
        probe = build()
        step = tf.function(probe.train_step)
        for batch in feature_batches(features, labels, 20).take(60):
            logs = step(batch)
        self.assertEqual(logs["top1"], 1.0)

    def test_is_as_good_as_scikit_learns_logistic_regression(self):
        from sklearn.linear_model import LogisticRegression

        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 1200).astype("int32")
        features = (0.8 * np.eye(16)[labels] + 0.7 * rng.normal(size=(1200, 16))).astype("float32")
        train, test = (features[:600], labels[:600]), (features[600:], labels[600:])
        probe = build((1.0, 0.1))
        step = tf.function(probe.train_step)
        for batch in feature_batches(*train, 100).take(300):
            step(batch)
        expected = LogisticRegression(C=1e4).fit(*train).score(*test)
        self.assertBetween(expected, 0.6, 0.9)
        for scores in probe.logits(test[0]).numpy():
            self.assertAllClose(np.mean(scores.argmax(-1) == test[1]), expected, atol=0.01)

    @parameterized.parameters(
        ((), 3, "learning_rate_factors"),
        ((1.0, -1.0), 3, "learning_rate_factors"),
        ((float("nan"), 1.0), 3, "learning_rate_factors"),
        ((1.0, float("inf")), 3, "learning_rate_factors"),
        ((1.0,), 1, "num_classes=1"),
    )
    def test_bad_arguments(self, factors, num_classes, message):
        with self.assertRaisesRegex(ValueError, message):
            build(factors, num_classes=num_classes)


class FeatureBatchesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.labels = np.arange(10, dtype="int32")
        self.features = np.arange(20, dtype="float32").reshape(10, 2)

    def take(self, count, **kwargs):
        data = feature_batches(self.features, self.labels, 3, **kwargs).take(count)
        return [batch["label"].numpy() for batch in data]

    def test_each_pass_takes_each_example_once_at_most(self):
        for batch in feature_batches(self.features, self.labels, 3).take(4):
            self.assertAllEqual(batch["features"][:, 0], 2 * batch["label"])
        first, second = np.concatenate(self.take(3)), np.concatenate(self.take(6)[3:])
        self.assertLen(set(first), 9)
        self.assertLen(set(second), 9)
        self.assertNotAllEqual(first, second)

    def test_a_batch_of_more_rows_than_there_are(self):
        with self.assertRaisesRegex(
            ValueError, "`batch_size` must be in .*Received: batch_size=11"
        ):
            feature_batches(self.features, self.labels, 11)

    def test_goes_on_where_it_stopped(self):
        whole = self.take(8)
        for start in (1, 3, 5):
            self.assertAllEqual(self.take(8 - start, start_step=start), whole[start:])


if __name__ == "__main__":
    tf.test.main()
