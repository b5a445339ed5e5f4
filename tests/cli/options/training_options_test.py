import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.training_options import TrainingOptions, build_optimizer


class BuildOptimizerTest(tf.test.TestCase):
    def step(self, shape, name):
        """The change of one variable of ones in AdamW's first step, whose gradient is 2."""
        options = TrainingOptions(
            optimizer="adamw",
            base_learning_rate=0.01,
            learning_rate_scaling="none",
            weight_decay=0.5,
            warmup_epochs=0,
        )
        variable = keras.Variable(np.ones(shape, "float32"), name=name)
        build_optimizer(options).apply([tf.fill(shape, 2.0)], [variable])
        return variable.numpy() - 1

    def test_adamw_decays_kernels_apart_from_the_gradient(self):
        self.assertAllClose(
            self.step((2, 3), "kernel"), np.full((2, 3), -0.01 - 0.01 * 0.5), rtol=1e-4
        )

    def test_adamw_does_not_decay_norms(self):
        self.assertAllClose(self.step((3,), "gamma"), np.full(3, -0.01), rtol=1e-4)

    def test_a_learning_rate_of_another_optimizer(self):
        with self.assertRaisesRegex(
            FlagError, "base_learning_rate=4.0: a peak of 16 suits lars and sgd"
        ):
            build_optimizer(TrainingOptions(optimizer="adamw", base_learning_rate=4.0))


if __name__ == "__main__":
    tf.test.main()
