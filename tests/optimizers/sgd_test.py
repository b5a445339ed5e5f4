import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.optimizers import SGD


class SGDTest(tf.test.TestCase):
    def test_steps_of_a_changing_rate(self):
        rng = np.random.default_rng(0)
        values = [rng.normal(size=shape) for shape in ((3, 4), (4,))]
        variables = [keras.Variable(v.astype("float32")) for v in values]
        rates = [0.5, 0.1, 0.02]
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], rates)
        optimizer = SGD(schedule, sgd_momentum=0.8, l2_decay=0.1)
        momenta = [np.zeros_like(v) for v in values]
        for rate in rates:
            gradients = [rng.normal(size=v.shape) for v in values]
            optimizer.apply([tf.constant(g, "float32") for g in gradients], variables)
            for index, gradient in enumerate(gradients):
                momenta[index] = 0.8 * momenta[index] + gradient + 0.1 * values[index]
                values[index] = values[index] - rate * momenta[index]
        for variable, value in zip(variables, values, strict=True):
            self.assertAllClose(variable, value, rtol=1e-5)

    def test_config_and_errors(self):
        optimizer = SGD(0.1, 0.7, l2_decay=0.2)
        again = SGD.from_config(optimizer.get_config())
        self.assertEqual((again.sgd_momentum, again.l2_decay), (0.7, 0.2))
        with self.assertRaisesRegex(ValueError, "sgd_momentum"):
            SGD(0.1, sgd_momentum=1.0)
        with self.assertRaisesRegex(ValueError, "l2_decay=-1"):
            SGD(0.1, l2_decay=-1)


if __name__ == "__main__":
    tf.test.main()
