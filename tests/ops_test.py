import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.ops import (
    check_shape,
    cross_replica_concat,
    effective_rank,
    feature_std,
    global_covariance,
    replica_index,
)
from tests.helpers.replicas import two_cpus


def values_of_replicas(strategy, blocks):
    def value(context):
        return tf.constant(blocks[context.replica_id_in_sync_group])

    return strategy.experimental_distribute_values_from_function(value)


def run(strategy, step, *args):
    """Results of a traced step on each replica, in order."""
    results = tf.function(lambda *args: strategy.run(step, args=args))(*args)
    return [x.numpy() for x in strategy.experimental_local_results(results)]


class CrossReplicaConcatTest(tf.test.TestCase, parameterized.TestCase):
    def test_one_replica_is_the_identity(self):
        x = tf.random.stateless_normal((3, 2), (0, 1))
        self.assertIs(cross_replica_concat(x), x)
        self.assertAllEqual(replica_index(), 0)

    @parameterized.parameters("float32", "float16", "int32")
    def test_blocks_are_in_the_replicas_order(self, dtype):
        strategy = two_cpus()
        blocks = (10 * np.random.default_rng(0).normal(size=(2, 3, 4, 5))).astype(dtype)
        shapes = []

        def step(x):
            gathered = cross_replica_concat(x)
            shapes.append(tuple(gathered.shape))
            return gathered

        results = run(strategy, step, values_of_replicas(strategy, blocks))
        self.assertLen(results, 2)
        for gathered in results:
            self.assertAllEqual(gathered, blocks.reshape(6, 4, 5))
            self.assertEqual(gathered.dtype, dtype)
        self.assertEqual(shapes, [(6, 4, 5)] * 2)

    def test_replica_index(self):
        self.assertEqual(run(two_cpus(), replica_index), [0, 1])

    def test_infinity_stays_in_its_rows(self):
        strategy = two_cpus()
        blocks = np.array([[[1.0], [np.inf]], [[2.0], [3.0]]], "float32")
        results = run(strategy, cross_replica_concat, values_of_replicas(strategy, blocks))
        for gathered in results:
            self.assertAllEqual(gathered, [[1.0], [np.inf], [2.0], [3.0]])

    def test_gradient_is_the_sum_over_the_replicas_losses(self):
        strategy = two_cpus()
        rng = np.random.default_rng(0)
        blocks = rng.normal(size=(2, 3, 2)).astype("float32")
        # Each replica weighs the whole batch differently, so that a gradient which forgets the
        # other replica's loss, counts one twice or mixes up the blocks is not the right one.
        weights = rng.normal(size=(2, 6, 2)).astype("float32")

        def step(x, weight):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(weight * cross_replica_concat(x) ** 2)
            return tape.gradient(loss, x)

        results = run(
            strategy,
            step,
            values_of_replicas(strategy, blocks),
            values_of_replicas(strategy, weights),
        )
        expected = (2 * weights.sum(0) * blocks.reshape(6, 2)).reshape(2, 3, 2)
        for index, gradient in enumerate(results):
            self.assertAllClose(gradient, expected[index], rtol=1e-5)

    def test_errors(self):
        strategy = two_cpus()
        with strategy.scope(), self.assertRaisesRegex(RuntimeError, "replica context"):
            cross_replica_concat(tf.zeros((2, 3)))

        @tf.function(input_signature=[tf.TensorSpec((None, 3))])
        def step(x):
            return strategy.run(cross_replica_concat, args=(x,))

        with self.assertRaisesRegex(ValueError, "static shape"):
            step(tf.zeros((2, 3)))


class EffectiveRankTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((40, 6), (6, 40))
    def test_equals_numpy(self, count, channels):
        rng = np.random.default_rng(0)
        vectors = rng.normal(0.5, 1, (count, channels)) * rng.uniform(0, 1, channels) ** 4
        singular = np.linalg.svd(vectors, compute_uv=False)
        shares = singular / singular.sum() + 1e-7
        expected = np.exp(-np.sum(shares * np.log(shares)))
        found = effective_rank(vectors.reshape(2, -1, channels).astype("float32"))
        self.assertAllClose(found, expected, rtol=1e-5)

    @parameterized.parameters(
        (np.ones((50, 8)), 1), (np.zeros((50, 8)), 1), (np.eye(8), 8), (np.eye(8)[:3], 3)
    )
    def test_known_ranks(self, vectors, rank):
        self.assertAllClose(effective_rank(vectors.astype("float32")), rank, rtol=1e-4)

    def test_16_bits_are_enough(self):
        vectors = np.random.default_rng(0).normal(0, 1, (64, 8))
        exact = effective_rank(tf.constant(vectors, tf.float32))
        self.assertAllClose(effective_rank(tf.constant(vectors, tf.bfloat16)), exact, rtol=1e-2)


class GlobalCovarianceTest(tf.test.TestCase):
    def test_equals_numpy(self):
        vectors = np.random.default_rng(0).normal(1, 1, (2, 6, 3)).astype("float32")
        unit = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).reshape(-1, 3)
        expected = 3 * np.cov(unit.T, bias=True)
        self.assertAllClose(global_covariance(vectors), expected, atol=1e-5)

    def test_its_diagonal_is_the_spread_of_features(self):
        vectors = np.random.default_rng(0).normal(1, 1, (6, 3)).astype("float32")
        spread = np.mean(np.sqrt(np.diagonal(global_covariance(vectors))))
        self.assertAllClose(feature_std(vectors), spread, atol=1e-5)

    def test_two_replicas_equal_one_device(self):
        vectors = np.random.default_rng(0).normal(1, 1, (6, 3)).astype("float32")
        strategy = two_cpus()

        def step():
            return global_covariance(tf.gather(vectors, 3 * replica_index() + tf.range(3)))

        for found in strategy.experimental_local_results(tf.function(lambda: strategy.run(step))()):
            self.assertAllClose(found, global_covariance(vectors), atol=1e-5)


class CheckShapeTest(tf.test.TestCase):
    def test_shapes_are_compared_as_far_as_they_are_known(self):
        for given in (np.zeros((2, 4)), tf.TensorSpec((None, 4)), tf.TensorSpec(None)):
            check_shape("x", given, (None, 4), "(B, 4)")
        for given in (np.zeros((2, 3)), tf.TensorSpec((None, 3)), tf.TensorSpec((2, 4, 1))):
            with self.assertRaisesRegex(ValueError, r"`x` must have the shape \(B, 4\). .* shape="):
                check_shape("x", given, (None, 4), "(B, 4)")


if __name__ == "__main__":
    tf.test.main()
