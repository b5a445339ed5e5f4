import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.layers import Normalization

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
STATISTICS = [np.array([100.0, 120.0, 90.0]), np.array([900.0, 16.0, 0.25]), np.array(0)]


class NormalizationTest(tf.test.TestCase):
    def test_computes_with_weights_however_they_were_set(self):
        expected = (IMAGES - STATISTICS[0]) / np.sqrt(STATISTICS[1])
        layer = Normalization()
        call = tf.function(lambda images: layer(images))
        self.assertAllClose(call(IMAGES), IMAGES)
        for variable, value in zip(layer.weights, STATISTICS, strict=True):
            variable.assign(value)
        self.assertAllClose(layer(IMAGES), expected, rtol=1e-5)
        self.assertAllClose(call(IMAGES), expected, rtol=1e-5)

    def test_given_statistics_are_those_of_keras(self):
        settings = {"mean": [1.0, 2.0, 3.0], "variance": [4.0, 5.0, 6.0]}
        expected = keras.layers.Normalization(**settings)(IMAGES)
        layer = Normalization.from_config(Normalization(**settings).get_config())
        self.assertAllEqual(layer(IMAGES), expected)


if __name__ == "__main__":
    tf.test.main()
