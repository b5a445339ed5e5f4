import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.losses import instance
from pixpro_keras.ops import cross_replica_concat, replica_index
from tests.helpers.replicas import two_cpus


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def vectors(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def cross_entropy_by_loop(cosines, positives, temperature):
    losses = []
    for row, positive in zip(cosines, positives, strict=True):
        scores = np.exp(np.array(row, "float64") / temperature)
        losses.append(-np.log(scores[positive] / scores.sum()))
    return np.mean(losses)


def nt_xent_by_loop(view1, view2, temperature):
    """NT-Xent by its definition: 2B anchors, sum without self-similarity."""
    z = unit(np.concatenate([view1, view2]).astype("float64"))
    count, losses = len(view1), []
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        others = [np.exp(z[i] @ z[k] / temperature) for k in range(2 * count) if k != i]
        losses.append(-np.log(np.exp(z[i] @ z[j] / temperature) / sum(others)))
    return np.mean(losses)


class NTXentTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.1, 0.5, 1.0)
    def test_equals_the_textbook(self, temperature):
        view1, view2 = vectors((5, 4), (5, 4))
        loss, _ = instance.nt_xent(view1, view2, view1, view2, 0, temperature)
        self.assertAllClose(loss, nt_xent_by_loop(view1, view2, temperature), rtol=1e-5)

    @parameterized.parameters(1, 2, 4)
    def test_parts_add_up_to_the_whole(self, size):
        view1, view2 = vectors((4, 3), (4, 3))
        parts = [
            instance.nt_xent(
                view1[i : i + size], view2[i : i + size], view1, view2, tf.constant(i), 0.2
            )[0]
            for i in range(0, 4, size)
        ]
        self.assertAllClose(np.mean(parts), nt_xent_by_loop(view1, view2, 0.2), rtol=1e-5)

    def test_two_replicas_equal_one_device(self):
        view1, view2, kernel = vectors((6, 5), (6, 5), (5, 3))

        def loss_and_gradient(x1, x2, kernel, num_replicas):
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                z1, z2 = tf.matmul(x1, kernel), tf.matmul(x2, kernel)
                all1, all2 = cross_replica_concat(z1), cross_replica_concat(z2)
                first = replica_index() * len(x1)
                loss, _ = instance.nt_xent(z1, z2, all1, all2, first, 0.3)
                scaled = loss / num_replicas
            return loss, tape.gradient(scaled, kernel)

        expected_loss, expected = loss_and_gradient(view1, view2, tf.constant(kernel), 1)
        self.assertAllClose(
            expected_loss, nt_xent_by_loop(view1 @ kernel, view2 @ kernel, 0.3), rtol=1e-5
        )
        strategy = two_cpus()

        def step():
            # Traced once for each replica, so this index is a constant.
            index = replica_index()
            rows = 3 * index + tf.range(3)
            return loss_and_gradient(
                tf.gather(view1, rows), tf.gather(view2, rows), tf.constant(kernel), 2
            )

        losses, gradients = tf.function(lambda: strategy.run(step))()
        losses = strategy.experimental_local_results(losses)
        self.assertNotAllClose(losses[0], losses[1])
        self.assertAllClose((losses[0] + losses[1]) / 2, expected_loss, rtol=1e-5)
        # The optimizer adds up the replicas' gradients.
        gradients = strategy.experimental_local_results(gradients)
        self.assertAllClose(gradients[0] + gradients[1], expected, rtol=1e-4, atol=1e-6)

    def test_gradient_reaches_anchors_and_candidates(self):
        arrays = [tf.constant(x) for x in vectors((2, 3), (2, 3), (4, 3), (4, 3))]
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            loss, _ = instance.nt_xent(*arrays, 0, 0.5)
        for gradient in tape.gradient(loss, arrays):
            self.assertGreater(np.abs(gradient).max(), 1e-3)

    def test_an_anchor_is_not_its_own_candidate(self):
        # Identical views: every anchor finds its positive, although it is as similar to itself.
        (view,) = vectors((3, 4))
        _, top1 = instance.nt_xent(view, view, view, view, 0, 0.5)
        self.assertAllEqual(top1, 1.0)

    def test_top1_counts_the_other_view_of_the_same_image(self):
        view1, view2 = vectors((4, 3), (4, 3))
        view2[:2] = view1[:2]
        view2[2:] = -view1[2:]
        _, top1 = instance.nt_xent(view1, view2, view1, view2, 0, 0.5)
        self.assertAllEqual(top1, 0.5)


class InfoNCETest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.07, 0.2, 1.0)
    def test_equals_a_loop(self, temperature):
        query, key, queue = vectors((4, 3), (4, 3), (6, 3))
        cosines = [
            [q @ k, *(q @ n for n in unit(queue))]
            for q, k in zip(unit(query), unit(key), strict=True)
        ]
        expected = cross_entropy_by_loop(cosines, [0] * 4, temperature)
        loss, _ = instance.info_nce(query, key, queue, temperature)
        self.assertAllClose(loss, expected, rtol=1e-5)

    def test_gradient_reaches_the_query_only(self):
        arrays = [tf.constant(x) for x in vectors((4, 3), (4, 3), (6, 3))]
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            loss, _ = instance.info_nce(*arrays, 0.2)
        d_query, d_key, d_queue = tape.gradient(loss, arrays)
        self.assertGreater(np.abs(d_query).max(), 1e-3)
        self.assertIsNone(d_key)
        self.assertIsNone(d_queue)

    def test_half_precision_is_computed_in_float32(self):
        arrays = [x.astype("float16") for x in vectors((4, 3), (4, 3), (6, 3))]
        exact = [x.astype("float32") for x in arrays]
        loss, _ = instance.info_nce(*arrays, 0.07)
        self.assertEqual(loss.dtype, "float32")
        self.assertAllClose(loss, instance.info_nce(*exact, 0.07)[0], rtol=1e-6)


class BatchInfoNCETest(tf.test.TestCase):
    def test_equals_a_loop(self):
        query, keys = vectors((2, 3), (6, 3))
        for first in (0, 4):
            cosines = [[q @ k for k in unit(keys)] for q in unit(query)]
            expected = cross_entropy_by_loop(cosines, [first, first + 1], 0.2)
            for position in (first, tf.constant(first)):
                loss, _ = instance.batch_info_nce(query, keys, position, 0.2)
                self.assertAllClose(loss, expected, rtol=1e-5)

    def test_gradient_reaches_the_query_only(self):
        query, keys = (tf.constant(x) for x in vectors((2, 3), (6, 3)))
        with tf.GradientTape() as tape:
            tape.watch([query, keys])
            loss, _ = instance.batch_info_nce(query, keys, 2, 0.2)
        d_query, d_keys = tape.gradient(loss, [query, keys])
        self.assertGreater(np.abs(d_query).max(), 1e-3)
        self.assertIsNone(d_keys)

    def test_two_replicas_equal_one_device(self):
        query, keys = vectors((6, 3), (6, 3))
        expected, _ = instance.batch_info_nce(query, keys, 0, 0.2)
        strategy = two_cpus()

        def step():
            rows = 3 * replica_index() + tf.range(3)
            gathered = cross_replica_concat(tf.gather(keys, rows))
            first = 3 * replica_index()
            return instance.batch_info_nce(tf.gather(query, rows), gathered, first, 0.2)[0]

        losses = strategy.experimental_local_results(tf.function(lambda: strategy.run(step))())
        self.assertNotAllClose(losses[0], losses[1])
        self.assertAllClose(np.mean(losses), expected, rtol=1e-5)


class NegativeCosineTest(tf.test.TestCase):
    def test_equals_a_loop(self):
        prediction, target = vectors((4, 3), (4, 3))
        cosines = [p @ t for p, t in zip(unit(prediction), unit(target), strict=True)]
        loss = instance.negative_cosine(prediction, target)
        self.assertAllClose(loss, -np.mean(cosines), rtol=1e-5)
        self.assertAllClose(instance.negative_cosine(prediction, 3 * prediction), -1.0)
        self.assertAllClose(instance.negative_cosine(prediction, -prediction), 1.0)

    def test_gradient_reaches_the_prediction_only(self):
        prediction, target = (tf.constant(x) for x in vectors((4, 3), (4, 3)))
        with tf.GradientTape() as tape:
            tape.watch([prediction, target])
            loss = instance.negative_cosine(prediction, target)
        d_prediction, d_target = tape.gradient(loss, [prediction, target])
        self.assertGreater(np.abs(d_prediction).max(), 1e-3)
        self.assertIsNone(d_target)


class Top1Test(tf.test.TestCase):
    def test_counts_rows_whose_positive_is_highest(self):
        logits = np.array([[3, 1, 2], [1, 3, 2], [1, 2, 3], [9, 8, 7]], "float32")
        self.assertAllEqual(instance.top1(logits, np.array([0, 1, 0, 1])), 0.5)
        self.assertAllEqual(instance.top1(logits, np.array([0, 1, 2, 0])), 1.0)

    def test_a_tie_is_missed(self):
        self.assertAllEqual(instance.top1(np.zeros((4, 3), "float32"), np.zeros(4, int)), 0.0)

    def test_collapsed_features_do_not_score(self):
        for seed in range(
            20
        ):  # The cosine with itself is 1 or its neighbor, by the order of additions.
            vector = np.random.default_rng(seed).normal(size=128).astype("float32")
            same = np.tile(vector, (8, 1))
            self.assertAllEqual(instance.info_nce(same, same, same, 0.2)[1], 0.0)
            self.assertAllEqual(instance.batch_info_nce(same, same, 0, 0.2)[1], 0.0)
            self.assertAllEqual(instance.nt_xent(same, same, same, same, 0, 0.2)[1], 0.0)


class AllTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("nt_xent", instance.nt_xent, ((2, 3), (2, 3), (4, 3), (4, 3)), (2, 0.1)),
        ("info_nce", instance.info_nce, ((4, 3), (4, 3), (6, 3)), (0.07,)),
        ("batch_info_nce", instance.batch_info_nce, ((2, 3), (4, 3)), (1, 0.2)),
        ("negative_cosine", instance.negative_cosine, ((4, 3), (4, 3)), ()),
    )
    def test_compiles_with_xla(self, loss, shapes, rest):
        arrays = [tf.constant(x) for x in vectors(*shapes)]

        def value_and_gradient(*arrays):
            with tf.GradientTape() as tape:
                tape.watch(arrays[0])
                value = loss(*arrays, *rest)
                value = value[0] if isinstance(value, tuple) else value
            return value, tape.gradient(value, arrays[0])

        compiled = tf.function(value_and_gradient, jit_compile=True)
        for one, two in zip(compiled(*arrays), value_and_gradient(*arrays), strict=True):
            self.assertAllClose(one, two, rtol=1e-5, atol=1e-6)

    @parameterized.parameters(0, -0.1)
    def test_temperature_must_be_positive(self, temperature):
        x = np.ones((2, 3), "float32")
        for loss in (
            lambda: instance.nt_xent(x, x, x, x, 0, temperature),
            lambda: instance.info_nce(x, x, x, temperature),
            lambda: instance.batch_info_nce(x, x, 0, temperature),
        ):
            with self.assertRaisesRegex(ValueError, "temperature.*must be positive"):
                loss()


if __name__ == "__main__":
    tf.test.main()
