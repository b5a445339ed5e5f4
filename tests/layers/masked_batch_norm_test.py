import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.layers.masked_batch_norm import MaskedBatchNorm
from tests.helpers.replicas import two_cpus


def rows(seed=0, batch=4):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(2.0, 3.0, size=(batch, 5, 3)).astype("float32"),
        (rng.random((batch, 5)) < 0.5).astype("float32"),
    )


def built(**kwargs):
    norm = MaskedBatchNorm(**kwargs)
    norm.build((None, None, 3))
    norm.gamma.assign([1.0, 2.0, 3.0])
    norm.beta.assign([0.0, -1.0, 5.0])
    return norm


class MaskedBatchNormTest(tf.test.TestCase):
    def test_equals_keras_on_the_selected_rows(self):
        x, mask = rows()
        ours = built()
        theirs = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
        theirs.build((None, 3))
        theirs.gamma.assign(ours.gamma)
        theirs.beta.assign(ours.beta)
        selected = mask > 0
        found, expected = ours(x, mask, training=True), theirs(x[selected], training=True)
        self.assertAllClose(found.numpy()[selected], expected, atol=1e-4)
        self.assertAllClose(ours.moving_mean, theirs.moving_mean, atol=1e-5)
        self.assertAllClose(ours.moving_variance, theirs.moving_variance, atol=1e-4)
        found, expected = ours(x, mask), theirs(x[selected])
        self.assertAllClose(found.numpy()[selected], expected, atol=1e-4)

    def test_is_rebuilt_from_its_config(self):
        norm = built(momentum=0.7, epsilon=1e-3)
        copy = MaskedBatchNorm.from_config(norm.get_config())
        self.assertEqual(copy.get_config(), norm.get_config())

    def test_without_a_row_that_counts(self):
        x, mask = rows()
        with tf.GradientTape() as tape:
            norm = built()
            loss = tf.reduce_sum(norm(x, 0 * mask, training=True) * mask[..., None])
        for gradient in tape.gradient(loss, [v.value for v in norm.trainable_variables]):
            self.assertTrue(np.isfinite(gradient).all())
        # As in detectron2's batch norm over replicas.
        self.assertAllEqual(norm.moving_mean, np.zeros(3))
        self.assertAllEqual(norm.moving_variance, np.ones(3))

    def test_replicas_share_their_statistics(self):
        x, mask = rows()
        expected = built()
        value = expected(x, mask, training=True)
        strategy = two_cpus()
        with strategy.scope():
            norm = built()

        @tf.function
        def run():
            def forward():
                first = 2 * tf.distribute.get_replica_context().replica_id_in_sync_group
                mine = (tf.constant(array)[first : first + 2] for array in (x, mask))
                return norm(*mine, training=True)

            return strategy.run(forward)

        parts = strategy.experimental_local_results(run())
        self.assertAllClose(tf.concat(parts, 0), value, atol=1e-5)
        self.assertAllClose(norm.moving_mean, expected.moving_mean, atol=1e-6)
        self.assertAllClose(norm.moving_variance, expected.moving_variance, atol=1e-5)


if __name__ == "__main__":
    tf.test.main()
