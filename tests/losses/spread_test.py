import numpy as np
import tensorflow as tf

from pixpro_keras.losses.spread import spread_terms
from pixpro_keras.ops import global_covariance


class SpreadTermsTest(tf.test.TestCase):
    def test_equals_a_loop(self):
        vectors = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
        vectors *= [0.3, 0.5, 2.0, 0.7]
        covariance = np.cov(vectors.T, bias=True)
        variance = covariances = 0.0
        for c in range(4):
            variance += max(0.0, 1 - np.sqrt(covariance[c, c] + 1e-4)) / 4
            covariances += sum(covariance[c, d] ** 2 for d in range(4) if d != c) / 4
        self.assertAllClose(spread_terms(covariance), (variance, covariances), rtol=1e-5)

    def test_features_that_are_all_alike_have_no_spread(self):
        # As many as the cells of a batch, and no value that 32 bits hold exactly.
        vector = np.random.default_rng(0).normal(size=256).astype("float32")
        covariance = global_covariance(tf.constant(np.tile(vector, (3136, 1))))
        self.assertAllGreaterEqual(tf.linalg.diag_part(covariance), 0.0)
        variance, covariance = spread_terms(covariance)
        self.assertAllClose(variance, 0.99, atol=1e-4)
        self.assertAllClose(covariance, 0.0)

    def test_gradient_of_features_that_are_alike_is_finite(self):
        vector = np.random.default_rng(0).normal(size=256).astype("float32")
        vectors = tf.Variable(np.tile(vector, (3136, 1)))
        with tf.GradientTape() as tape:
            loss = sum(spread_terms(global_covariance(vectors)))
        self.assertAllEqual(np.isfinite(tape.gradient(loss, vectors)), np.ones((3136, 256), bool))


if __name__ == "__main__":
    tf.test.main()
