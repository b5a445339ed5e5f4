import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.queue import Queue
from pixpro_keras.losses import instance
from pixpro_keras.ops import cross_replica_concat, replica_index
from tests.helpers.replicas import two_cpus


def blocks(count, size, dim=3):
    return np.random.default_rng(0).normal(size=(count, size, dim)).astype("float32")


class QueueTest(tf.test.TestCase, parameterized.TestCase):
    def tearDown(self):
        keras.mixed_precision.set_global_policy("float32")
        super().tearDown()

    def test_starts_with_random_unit_vectors(self):
        keys = Queue(64, 16).read().numpy()
        self.assertAllClose(np.linalg.norm(keys, axis=1), np.ones(64), rtol=1e-5)
        self.assertLess(np.abs(keys.mean(0)).max(), 0.15)
        self.assertAllEqual(keys, Queue(64, 16).read())
        self.assertNotAllClose(keys, Queue(64, 16, seed=1).read())

    def test_new_keys_replace_the_oldest(self):
        queue = Queue(6, 3)
        enqueue = tf.function(queue.enqueue)
        expected = queue.read().numpy()
        for index, block in enumerate(blocks(5, 2)):
            before = queue.read()
            enqueue(tf.constant(block))
            self.assertAllEqual(before, expected)  # What was read stays as it was.
            row = 2 * index % 6
            expected[row : row + 2] = block
            self.assertAllEqual(queue.read(), expected)
            self.assertAllEqual(queue.position, (row + 2) % 6)

    def test_blocks_may_become_larger(self):
        queue = Queue(8, 3)
        small, large = blocks(1, 4)[0], blocks(1, 8)[0]
        queue.enqueue(small)
        queue.enqueue(large)
        self.assertAllEqual(queue.read(), np.concatenate([large[4:], large[:4]]))
        self.assertAllEqual(queue.position, 4)

    def test_a_block_may_fill_the_queue(self):
        queue = Queue(4, 3)
        for block in blocks(2, 4):
            queue.enqueue(block)
            self.assertAllEqual(queue.read(), block)
            self.assertAllEqual(queue.position, 0)

    @parameterized.parameters(False, True)
    def test_a_loss_sees_the_keys_of_before(self, jit_compile):
        queue = Queue(4, 3)
        query, key = (tf.constant(x) for x in blocks(2, 2))
        before = queue.read().numpy()

        @tf.function(jit_compile=jit_compile)
        def step(query, key):
            with tf.GradientTape() as tape:
                tape.watch(query)
                negatives = queue.read()
                queue.enqueue(key)
                loss, _ = instance.info_nce(query, key, negatives, 0.2)
            return loss, tape.gradient(loss, query)

        with tf.GradientTape() as tape:
            tape.watch(query)
            expected, _ = instance.info_nce(query, key, before, 0.2)
        loss, gradient = step(query, key)
        self.assertAllClose(loss, expected, rtol=1e-5)
        self.assertAllClose(gradient, tape.gradient(expected, query), rtol=1e-4, atol=1e-6)
        self.assertAllEqual(queue.read(), np.concatenate([key, before[2:]]))

    def test_two_replicas_equal_one_device(self):
        data = blocks(4, 4)
        single = Queue(12, 3)
        for block in data:
            single.enqueue(block)

        strategy = two_cpus()
        with strategy.scope():
            mirrored = Queue(12, 3)

        @tf.function
        def step(block):
            def on_replica(block):
                own = tf.gather(block, 2 * replica_index() + tf.range(2))
                negatives = mirrored.read()
                mirrored.enqueue(cross_replica_concat(own))
                return negatives

            return strategy.run(on_replica, args=(block,))

        for block in data:
            step(tf.constant(block))
        for one, two in ((single.keys, mirrored.keys), (single.position, mirrored.position)):
            copies = strategy.experimental_local_results(two.value)
            self.assertLen(copies, 2)
            for copy in copies:
                self.assertAllEqual(copy, one)
        # What a replica reads is what was enqueued before, in its own copy.
        expected = single.read()
        for negatives in strategy.experimental_local_results(step(tf.constant(data[0]))):
            self.assertAllEqual(negatives, expected)

    def test_nothing_is_trained_and_keys_get_no_gradient(self):
        queue = Queue(4, 3)
        self.assertEmpty(queue.trainable_variables)
        self.assertLen(queue.non_trainable_variables, 2)
        keys = tf.constant(blocks(1, 2)[0])
        with tf.GradientTape() as tape:
            tape.watch(keys)
            queue.enqueue(keys)
            total = tf.reduce_sum(queue.read())
        self.assertIsNone(tape.gradient(total, keys))

    @parameterized.parameters("float32", "mixed_float16", "mixed_bfloat16")
    def test_policies_and_config(self, policy):
        keras.mixed_precision.set_global_policy(policy)
        queue = Queue(4, 3, seed=5, name="negatives")
        block = blocks(1, 2)[0]

        class Reader(keras.layers.Layer):
            """Layer that reads the queue; inside it, Keras casts variables to the compute dtype."""

            def call(self, x):
                queue.enqueue(x)
                return tf.cast(queue.read(), "float32") - tf.constant(block[0])

        Reader()(tf.constant(block))
        self.assertEqual(queue.read().dtype, "float32")
        dtype = keras.mixed_precision.dtype_policy().compute_dtype
        self.assertAllEqual(queue.read()[:2], tf.cast(tf.cast(block, dtype), "float32"))
        copy = Queue.from_config(queue.get_config())
        self.assertEqual(copy.get_config(), queue.get_config())
        self.assertEqual(copy.read().shape, (4, 3))
        copy.set_weights(queue.get_weights())
        self.assertAllEqual(copy.read(), queue.read())
        self.assertAllEqual(copy.position, 2)

    def test_bad_arguments(self):
        for kwargs in ({"size": 0, "dim": 3}, {"size": 4, "dim": 0}):
            with self.assertRaisesRegex(ValueError, "must be at least 1"):
                Queue(**kwargs)
        queue = Queue(6, 3)
        with self.assertRaisesRegex(ValueError, "multiple of .*size=6, 4 keys"):
            queue.enqueue(np.zeros((4, 3), "float32"))
        with self.assertRaisesRegex(ValueError, "multiple of .*size=6, 12 keys"):
            queue.enqueue(np.zeros((12, 3), "float32"))
        for shape in ((2, 4), (3,)):
            with self.assertRaisesRegex(ValueError, r"static shape of \(B, 3\)"):
                queue.enqueue(np.zeros(shape, "float32"))


if __name__ == "__main__":
    tf.test.main()
