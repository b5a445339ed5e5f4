import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.logistic_regression import linear_probe


def overlapping(rng, labels):
    return rng.normal(labels[:, None] * [1.0, -0.5], 0.5, (len(labels), 2))


class LinearProbeTest(tf.test.TestCase):
    def test_optimum_of_the_stated_objective(self):
        """Cross-entropy's gradient at the optimum is minus that of the penalty, by hand."""
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 200)
        known = overlapping(rng, labels)
        grid = rng.normal(0, 3, (400, 2))
        found = linear_probe(known, labels, grid, l2=0.1, iterations=1000)
        weights, bias = np.zeros((2, 3)), np.zeros(3)
        targets = np.eye(3)[labels]
        for _ in range(3000):
            scores = known @ weights + bias
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            weights -= 0.5 * (known.T @ (p - targets) / len(known) + 0.1 * weights)
            bias -= 0.5 * (p - targets).mean(0)
        scores = np.sort(grid @ weights + bias, axis=1)
        is_clear = scores[:, -1] - scores[:, -2] > 1e-2
        self.assertGreater(is_clear.mean(), 0.9)
        expected = (grid @ weights + bias).argmax(1)
        self.assertAllEqual(found[is_clear], expected[is_clear])

    def test_balanced_classes_are_not_outvoted(self):
        rng = np.random.default_rng(0)
        labels = np.tile([0] * 19 + [1], 50)
        known, asked = overlapping(rng, labels), overlapping(rng, labels)
        rare = labels == 1
        plain = linear_probe(known, labels, asked)
        balanced = linear_probe(known, labels, asked, is_balanced=True)
        self.assertLess(np.mean(plain[rare] == 1), 0.6)
        self.assertGreater(np.mean(balanced[rare] == 1), 0.75)

    def test_one_class_is_refused(self):
        with self.assertRaisesRegex(ValueError, "class"):
            linear_probe(np.zeros((3, 2)), np.zeros(3, int), np.zeros((1, 2)))


if __name__ == "__main__":
    tf.test.main()
