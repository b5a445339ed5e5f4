import numpy as np
import tensorflow as tf

from pixpro_keras.layers.initializers import he_normal_fan_out, torch_defaults


class InitializersTest(tf.test.TestCase):
    def test_he_normal_has_the_deviation_of_its_fan_out(self):
        kernel = np.asarray(he_normal_fan_out()((3, 3, 32, 64)))
        expected = np.sqrt(2 / (3 * 3 * 64))
        self.assertAllClose(np.std(kernel), expected, rtol=0.03)
        self.assertGreater(np.abs(kernel).max(), 2.5 * expected)  # not truncated

    def test_torch_defaults_fill_their_interval(self):
        initializers = torch_defaults(fan_in=25)
        for name, shape in (("kernel_initializer", (25, 400)), ("bias_initializer", (1000,))):
            values = np.asarray(initializers[name](shape))
            self.assertAllInRange(values, -0.2, 0.2)
            self.assertLess(values.min(), -0.19)
            self.assertGreater(values.max(), 0.19)


if __name__ == "__main__":
    tf.test.main()
