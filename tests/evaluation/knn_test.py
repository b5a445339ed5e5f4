import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.evaluation import knn
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn


def random_problem(num_train=90, num_test=31, channels=8, num_classes=5):
    rng = np.random.default_rng(0)
    train = rng.normal(size=(num_train, channels)).astype("float32")
    test = rng.normal(size=(num_test, channels)).astype("float32")
    return train, rng.integers(0, num_classes, num_train), test


class WeightedKnnTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((1, 0.07), (7, 0.07), (20, 1.0), (90, 0.3))
    def test_against_scikit_learn(self, k, temperature):
        from sklearn.neighbors import KNeighborsClassifier

        train, labels, test = random_problem()
        oracle = KNeighborsClassifier(
            k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature)
        ).fit(train, labels)

        scores = weighted_knn(train, labels, test, num_classes=5, k=k, temperature=temperature)

        votes = np.maximum(scores, 0)  # -inf: no votes.
        shares = votes / votes.sum(axis=1, keepdims=True)
        self.assertAllClose(shares, oracle.predict_proba(test), rtol=1e-3, atol=1e-5)
        self.assertEqual(scores.dtype, np.float32)

    @parameterized.parameters(4, 7, 30, 31, 89)
    def test_blocks_change_nothing(self, block_size):
        train, labels, test = random_problem()
        whole = weighted_knn(train, labels, test, num_classes=5, k=9)
        blocks = weighted_knn(train, labels, test, num_classes=5, k=9, block_size=block_size)
        self.assertAllClose(blocks, whole, rtol=1e-4, atol=1e-6)

    def test_lengths_do_not_count(self):
        train, labels, test = random_problem()
        one = weighted_knn(train, labels, test, num_classes=5)
        other = weighted_knn(
            train * np.linspace(0.1, 9, len(train))[:, None].astype("float32"),
            labels,
            100 * test,
            num_classes=5,
        )
        self.assertAllClose(one, other, rtol=1e-3, atol=1e-6)

    @parameterized.parameters(1, 2, 3, 100)
    def test_ties_go_to_the_first(self, block_size):
        train = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [0, 1]], "float32")
        labels = np.array([0, 3, 1, 2, 0])
        scores = weighted_knn(train, labels, train[1:2], num_classes=4, k=2, block_size=block_size)
        self.assertAllEqual(scores, [[-np.inf, 1, -np.inf, 1]])

    def test_largest_of_groups_are_the_largest_of_all(self):
        # Few different values, so that most are tied.
        values = np.random.default_rng(0).integers(0, 30, (50, 640)).astype("float32")
        for found, expected in zip(knn._top_k(values, 20), tf.math.top_k(values, 20), strict=True):
            self.assertAllEqual(found, expected)

    def test_low_temperature_does_not_overflow_and_leaves_votes(self):
        train, labels, test = random_problem()
        scores = weighted_knn(train, labels, test, num_classes=5, temperature=1e-3)
        self.assertAllInRange(scores.max(axis=1), 1.0, 20.0)
        # A vote that rounds to 0 is one.
        usual = weighted_knn(train, labels, test, num_classes=5)
        self.assertTrue((scores == 0).any())
        self.assertAllEqual(np.isfinite(scores), np.isfinite(usual))

    def test_zero_features_are_far_from_all(self):
        train = np.array([[0, 0], [1, 0]], "float32")
        scores = weighted_knn(
            train, np.array([0, 1]), np.array([[1, 0.0]], "float32"), num_classes=2, k=1
        )
        self.assertAllEqual(scores, [[-np.inf, 1]])

    @parameterized.parameters(
        ({"k": 91}, r"`k` must be in \[1, 90\]. Received: k=91"),
        ({"k": 0}, "`k`.*k=0"),
        ({"temperature": 0.0}, "`temperature`.*temperature=0.0"),
        ({"block_size": 0}, "`block_size`.*block_size=0"),
        ({"num_classes": 4}, r"`train_labels` must be in \[0, 4\)"),
    )
    def test_bad_settings(self, changes, message):
        train, labels, test = random_problem()
        with self.assertRaisesRegex(ValueError, message):
            weighted_knn(train, labels, test, **({"num_classes": 5} | changes))

    def test_bad_data(self):
        train, labels, test = random_problem()
        broken = test.copy()
        broken[3, 2] = np.nan
        for arguments, message in [
            ((train, labels[1:], test), r"`train_labels` must be \(90,\)"),
            ((train, labels, test[:, 1:]), r"\(N, C\)"),
            ((train, labels - 1, test), "`train_labels` must be in"),
            ((train, labels, broken), "`features` must be finite"),
        ]:
            with self.assertRaisesRegex(ValueError, message):
                weighted_knn(*arguments, num_classes=5)

    def test_no_query_has_no_scores(self):
        train, labels, test = random_problem()
        scores = weighted_knn(train, labels, test[:0], num_classes=5)
        self.assertEqual(scores.shape, (0, 5))

    def test_takes_tensors_and_lists(self):
        train, labels, test = random_problem()
        expected = weighted_knn(train, labels, test, num_classes=5)
        found = weighted_knn(tf.constant(train), labels.tolist(), test.tolist(), num_classes=5)
        self.assertAllClose(found, expected)


class TopKAccuracyTest(tf.test.TestCase):
    def test_labels_without_a_score_are_refused(self):
        for labels, message in (([0, 3], r"be in \[0, 3\). Received: 0 to 3"), ([0], r"be \(2,\)")):
            with self.assertRaisesRegex(ValueError, f"`labels` must {message}"):
                top_k_accuracy(np.eye(3)[:2], labels)

    def test_hand_made(self):
        no = -np.inf
        scores = np.array(
            [[0.5, 0.3, 0.2, no], [0.1, 0.2, 0.7, no], [1, no, no, no], [0.4, 0.4, 0.2, no]]
        )
        labels = np.array([0, 1, 1, 1])
        self.assertEqual(top_k_accuracy(scores, labels), 0.25)
        # The third item's class has no vote and is not among its two best, though ranked second.
        self.assertEqual(top_k_accuracy(scores, labels, k=2), 0.75)
        self.assertEqual(top_k_accuracy(scores, labels, k=4), 0.75)

    def test_logits_of_any_sign_rank(self):
        logits = np.array([[200.0, 90, 0, -10, -20, -30, np.nan]], "float32")
        found = [top_k_accuracy(logits, np.array([label]), 5) for label in range(7)]
        self.assertEqual(found, [1, 1, 1, 1, 1, 0, 0])


if __name__ == "__main__":
    tf.test.main()
