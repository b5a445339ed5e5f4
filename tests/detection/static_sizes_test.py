import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.static_sizes import call_with_fewest


class StaticSizesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0, 25), (25, 25), (26, 50), (50, 50), (51, 100), (100, 100))
    def test_fewest_rows_that_hold_all(self, count, expected):
        found = tf.function(lambda n: call_with_fewest(tf.constant, n, 100))(tf.constant(count))
        self.assertEqual(found, expected)

    def test_few_rows_have_no_branches(self):
        self.assertEqual(call_with_fewest(lambda size: size, tf.constant(1), 40), 40)

    def test_gradient(self):
        rows = tf.Variable(tf.range(100.0))

        @tf.function
        def gradient(count):
            with tf.GradientTape() as tape:
                total = call_with_fewest(lambda n: tf.reduce_sum(rows[:n] ** 2), count, 100)
            return tf.convert_to_tensor(tape.gradient(total, rows))

        expected = 2 * tf.range(100.0) * tf.cast(tf.range(100) < 50, tf.float32)
        self.assertAllEqual(gradient(tf.constant(30)), expected)


if __name__ == "__main__":
    tf.test.main()
