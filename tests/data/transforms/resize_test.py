import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.transforms import resize_bilinear


class ResizeBilinearTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(((20, 30),), ((9, 31),), ((5, 8),), ((9, 12),), ((30, 7),))
    def test_equals_antialiased_scaling(self, size):
        image = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype("uint8")
        expected = tf.image.resize(image, size, "bilinear", antialias=True)
        self.assertAllClose(resize_bilinear(image, size), expected, atol=1e-3)


if __name__ == "__main__":
    tf.test.main()
