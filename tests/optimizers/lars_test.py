import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.optimizers import LARS

SHAPES = {"kernel": (3, 3, 2, 4), "bias": (4,), "matrix": (5, 2), "zero": (2, 2)}


def start(seed=0):
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    weights["zero"][:] = 0
    gradients = [{name: rng.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(4)]
    gradients[1]["matrix"][:] = 0
    return weights, gradients


def lars_loop(weights, gradients, rates, momentum, decay, trust, epsilon=1e-8):
    """LARS in NumPy float64, one variable at a time."""
    slots = {name: np.zeros_like(w) for name, w in weights.items()}
    weights = {name: w.copy() for name, w in weights.items()}
    for step, rate in zip(gradients, rates, strict=True):
        for name, g in step.items():
            w = weights[name]
            if w.ndim > 1:
                g = g + decay * w
                w_norm, g_norm = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
                if w_norm > 0 and g_norm > 0:
                    g = g * trust * w_norm / (g_norm + epsilon)
            slots[name] = momentum * slots[name] + g
            weights[name] = w - rate * slots[name]
    return weights


class LARSTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(momentum=[0.0, 0.9], decay=[0.0, 1e-2], trust=[0.001, 0.02])
    def test_equals_a_float64_loop(self, momentum, decay, trust):
        weights, gradients = start()
        variables = {n: keras.Variable(w.astype("float32"), name=n) for n, w in weights.items()}
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 2], [0.5, 1.0, 0.25])
        rates = [0.5, 0.5, 1.0, 0.25]
        optimizer = LARS(schedule, momentum, decay, trust)
        optimizer.build(list(variables.values()))
        for step in gradients:
            optimizer.apply([tf.constant(step[n], "float32") for n in variables])
        expected = lars_loop(weights, gradients, rates, momentum, decay, trust)
        for name, variable in variables.items():
            self.assertAllClose(variable, expected[name], rtol=2e-6, atol=2e-6, msg=name)

    def test_serializes_with_its_schedule_and_state(self):
        weights, gradients = start()
        variables = [keras.Variable(w.astype("float32")) for w in weights.values()]
        optimizer = LARS(keras.optimizers.schedules.CosineDecay(0.3, 10), 0.8, 1e-3, 0.01)
        config = keras.saving.serialize_keras_object(optimizer)
        copy = keras.saving.deserialize_keras_object(config)
        self.assertEqual(copy.get_config(), optimizer.get_config())
        optimizer.build(variables)
        optimizer.apply([tf.constant(g, "float32") for g in gradients[0].values()])
        twins = [keras.Variable(v.numpy()) for v in variables]
        copy.build(twins)
        for slot, value in zip(copy.variables, optimizer.variables, strict=True):
            slot.assign(value)
        for model, updated in ((optimizer, variables), (copy, twins)):
            model.apply([tf.constant(g, "float32") for g in gradients[2].values()], updated)
        for one, two in zip(variables, twins, strict=True):
            self.assertAllEqual(one, two)

    @parameterized.parameters(
        ({"sgd_momentum": 1.0}, "sgd_momentum"),
        ({"l2_decay": -1.0}, "l2_decay"),
        ({"trust_coefficient": 0.0}, "trust_coefficient"),
    )
    def test_bad_arguments(self, kwargs, name):
        with self.assertRaisesRegex(ValueError, name):
            LARS(**kwargs)


if __name__ == "__main__":
    tf.test.main()
