import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.optimizers import AdamW
from tests.helpers.replicas import per_replica, two_cpus


class AdamWTest(tf.test.TestCase):
    def test_equals_keras(self):
        weights = []
        for optimizer_class in (AdamW, keras.optimizers.AdamW):
            rng = np.random.default_rng(0)
            variables = [
                keras.Variable(rng.normal(size=shape).astype("float32"), name=name)
                for shape, name in (((3, 4), "kernel"), ((4,), "bias"))
            ]
            schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.02])
            optimizer = optimizer_class(
                schedule, weight_decay=0.3, beta_2=0.95, global_clipnorm=2.0
            )
            optimizer.exclude_from_weight_decay(var_names=["bias"])
            for _ in range(5):
                gradients = [tf.constant(rng.normal(size=v.shape), "float32") for v in variables]
                optimizer.apply(gradients, variables)
            weights.append([x.numpy() for x in variables + optimizer.variables])
        for ours, theirs in zip(*weights, strict=True):
            self.assertAllClose(ours, theirs, rtol=1e-5, atol=1e-7)

    def test_replicas_apply_the_sum_of_their_gradients(self):
        parts = np.random.default_rng(0).normal(size=(3, 2, 4)).astype("float32")
        strategy = two_cpus()
        with strategy.scope():
            variable, optimizer = keras.Variable(tf.ones(4)), AdamW(0.1)
            optimizer.build([variable])

        @tf.function
        def step(batch):
            strategy.run(lambda x: optimizer.apply([x["gradient"][0]], [variable]), args=(batch,))

        alone, one_device = keras.Variable(tf.ones(4)), AdamW(0.1)
        for gradients in parts:
            step(per_replica(strategy, {"gradient": gradients}))
            one_device.apply([tf.constant(gradients.sum(axis=0))], [alone])
        for copy in strategy.experimental_local_results(variable.value):
            self.assertAllClose(copy, alone, rtol=1e-5)

    def test_state_has_the_names_of_keras(self):
        names = []
        for optimizer_class in (AdamW, keras.optimizers.AdamW):
            optimizer = optimizer_class(0.1, name="adamw")
            optimizer.build([keras.Variable(tf.zeros((2, 3)), name="kernel")])
            names.append([(x.path, x.shape, x.dtype) for x in optimizer.variables])
        self.assertEqual(*names)

    def test_config_and_errors(self):
        optimizer = AdamW(0.1, weight_decay=0.2, beta_1=0.8)
        again = AdamW.from_config(optimizer.get_config())
        self.assertEqual((again.weight_decay, again.beta_1), (0.2, 0.8))
        with self.assertRaisesRegex(ValueError, "amsgrad=True"):
            AdamW(0.1, amsgrad=True)


if __name__ == "__main__":
    tf.test.main()
