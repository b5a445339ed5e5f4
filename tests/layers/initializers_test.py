import numpy as np
import tensorflow as tf

from pixpro_keras.layers.initializers import (
    he_normal_fan_in,
    he_normal_fan_out,
    torch_defaults,
)


class InitializersTest(tf.test.TestCase):
    def test_he_normal_has_the_deviation_of_its_fan(self):
        for initializer, fan in ((he_normal_fan_out(), 64), (he_normal_fan_in(), 32)):
            kernel = np.asarray(initializer((3, 3, 32, 64)))
            expected = np.sqrt(2 / (3 * 3 * fan))
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
