import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.backbones import feature_network
from pixpro_keras.evaluation.dense_linear_probe import center_labels, fit_dense_linear_probe
from tests.helpers.tiny_networks import tiny_backbone


def problem(num_classes, seed=0, count=8, size=16):
    """Images of two halves whose brightness is the class."""
    rng = np.random.default_rng(seed)
    masks = np.repeat(rng.integers(0, num_classes, (count, size, 2)), size // 2, axis=2)
    masks = np.repeat(masks[:, ::8], 8, axis=1)
    images = masks[..., None] + 0.3 * rng.normal(size=(count, size, size, 3))
    masks[rng.random(masks.shape) < 0.2] = 255
    return images.astype("float32"), masks.astype("int32")


class DenseLinearProbeTest(tf.test.TestCase, parameterized.TestCase):
    def test_centers(self):
        masks = np.arange(60).reshape(1, 6, 10)
        self.assertAllEqual(center_labels(masks, (2, 2)), [[[12, 17], [42, 47]]])
        self.assertAllEqual(center_labels(masks, (6, 10)), masks)

    @parameterized.parameters(2, 3)
    def test_logits_equal_scikit_learns_on_standardized_cells(self, num_classes):
        from sklearn.linear_model import LogisticRegression

        keras.utils.set_random_seed(0)
        network, (images, masks) = tiny_backbone(), problem(num_classes)
        data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(3)
        classifier = fit_dense_linear_probe(network, data, num_classes + 1, l2=0.01)

        cells = network(images, training=False).numpy()  # (8, 4, 4, 16)
        labels = masks[:, 2::4, 2::4].ravel()
        mean, std = cells.mean((0, 1, 2)), cells.std((0, 1, 2)) + 1e-6
        flat = ((cells - mean) / std).reshape(-1, 16)
        is_labeled = labels != 255
        model = LogisticRegression(C=1 / (0.01 * is_labeled.sum()), max_iter=100)
        expected = model.fit(flat[is_labeled], labels[is_labeled]).predict_proba(flat)
        logits = classifier.logits(images, (4, 4)).numpy().reshape(len(flat), -1)
        # The class that is nowhere never wins.
        self.assertAllClose(tf.nn.softmax(logits)[:, -1], np.zeros(len(flat)))
        self.assertAllClose(tf.nn.softmax(logits)[:, :-1], expected, atol=1e-4)
        self.assertGreater(np.mean(logits.argmax(1)[is_labeled] == labels[is_labeled]), 0.9)

    def test_a_nearly_constant_channel_is_not_used(self):
        network = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.AveragePooling2D(4)])
        images, masks = problem(2)
        rng = np.random.default_rng(0)
        images[..., 2] = 100.0 + rng.normal(size=images.shape[:3]) * 1e-6
        classifier = fit_dense_linear_probe(network, [(images, masks)], 2)
        expected = classifier.logits(images, (4, 4))
        images[..., 2] += 1  # It is alive in other images.
        self.assertAllClose(classifier.logits(images, (4, 4)), expected, atol=1e-4)
        without = fit_dense_linear_probe(network, [(images * [1, 1, 0], masks)], 2)
        self.assertAllClose(without.logits(images * [1, 1, 0], (4, 4)), expected, atol=1e-3)

    @parameterized.parameters((1, "only class 1"), (255, "no class"))
    def test_less_than_two_classes(self, value, message):
        batches = [(np.zeros((1, 32, 32, 3), "float32"), np.full((1, 32, 32), value))]
        with self.assertRaisesRegex(ValueError, message):
            fit_dense_linear_probe(tiny_backbone(), batches, 2)

    @parameterized.parameters(
        ((1, 32, 32), 2, r"in \[0, 2\), or 255 .*Received: 0 to 2"),
        ((1, 32, 32, 1), 1, r"\(B, H, W\). Received: the shape \(1, 32, 32, 1\)"),
    )
    def test_bad_masks(self, shape, last, message):
        masks = np.zeros(shape, int)
        masks[:, 16:] = last
        batches = [(np.zeros((1, 32, 32, 3), "float32"), masks)]
        with self.assertRaisesRegex(ValueError, message):
            fit_dense_linear_probe(tiny_backbone(), batches, 2)

    def test_a_network_without_a_map_is_refused(self):
        batches = [(np.zeros((1, 32, 32, 3), "float32"), np.zeros((1, 32, 32), int))]
        with self.assertRaisesRegex(ValueError, r"must return a map .*\(1, 16\)"):
            fit_dense_linear_probe(feature_network(tiny_backbone(), "pooled"), batches, 2)

    def test_no_batches(self):
        with self.assertRaisesRegex(ValueError, "at least one batch"):
            fit_dense_linear_probe(tiny_backbone(), [], 2)


if __name__ == "__main__":
    tf.test.main()
