import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.logistic_regression import fit_logistic_regression


def overlapping(rng, labels):
    return rng.normal(labels[:, None] * [1.0, -0.5], 0.5, (len(labels), 2))


class LogisticRegressionTest(tf.test.TestCase):
    def test_optimum_of_the_stated_objective(self):
        """At the optimum, the gradient of the cross-entropy is minus that of the penalty."""
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, 200)
        features = overlapping(rng, labels)
        grid = rng.normal(0, 3, (400, 2))
        model = fit_logistic_regression(features, labels, l2=0.1, iterations=1000)
        found = model.predict(grid)
        weights, bias = np.zeros((2, 3)), np.zeros(3)
        targets = np.eye(3)[labels]
        for _ in range(3000):
            scores = features @ weights + bias
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            weights -= 0.5 * (features.T @ (p - targets) / len(features) + 0.1 * weights)
            bias -= 0.5 * (p - targets).mean(0)
        scores = np.sort(grid @ weights + bias, axis=1)
        is_clear = scores[:, -1] - scores[:, -2] > 1e-2
        self.assertGreater(is_clear.mean(), 0.9)
        expected = (grid @ weights + bias).argmax(1)
        self.assertAllEqual(found[is_clear], expected[is_clear])

    def test_balanced_classes_are_not_outvoted(self):
        rng = np.random.default_rng(0)
        labels = np.tile([0] * 19 + [1], 50)
        train, test = overlapping(rng, labels), overlapping(rng, labels)
        rare = labels == 1
        plain = fit_logistic_regression(train, labels).predict(test)
        model = fit_logistic_regression(train, labels, is_balanced=True)
        balanced = model.predict(test)
        self.assertLess(np.mean(plain[rare] == 1), 0.6)
        self.assertGreater(np.mean(balanced[rare] == 1), 0.75)

    def test_one_class_is_refused(self):
        with self.assertRaisesRegex(ValueError, "class"):
            fit_logistic_regression(np.zeros((3, 2)), np.zeros(3, int))


if __name__ == "__main__":
    tf.test.main()
