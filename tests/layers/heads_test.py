import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.heads import PointwiseMLP, PooledMLP


def linear(layer, x):
    kernel = np.asarray(layer.kernel)
    x = x @ kernel.reshape(kernel.shape[-2:])
    return x + np.asarray(layer.bias) if layer.use_bias else x


def normalized(layer, x):
    scaled = (x - np.asarray(layer.moving_mean)) / np.sqrt(np.asarray(layer.moving_variance) + 1e-5)
    scaled = scaled * np.asarray(layer.gamma)
    return scaled + np.asarray(layer.beta) if layer.center else scaled


def shake(layer):
    """Random weights, batch-norm statistics included."""
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        values = rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(values if "variance" in weight.path else values - 1)


class HeadsTest(tf.test.TestCase, parameterized.TestCase):
    def tearDown(self):
        keras.mixed_precision.set_global_policy("float32")
        super().tearDown()

    def setUp(self):
        super().setUp()
        self.maps = np.random.default_rng(1).normal(size=(2, 3, 4, 5)).astype("float32")

    @parameterized.parameters(True, False)
    def test_pointwise(self, use_batch_norm):
        head = PointwiseMLP(7, 6, num_layers=3, use_batch_norm=use_batch_norm)
        head.build(self.maps.shape)
        shake(head)
        x = self.maps
        for index in range(3):
            layers = {layer.name: layer for layer in head.layers}
            x = linear(layers[f"linear{index + 1}"], x)
            if index < 2:
                x = normalized(layers[f"bn{index + 1}"], x) if use_batch_norm else x
                x = np.maximum(x, 0)
        self.assertLen(head.layers, 5 if use_batch_norm else 3)
        self.assertAllClose(head(self.maps), x, rtol=1e-4, atol=1e-5)

    def test_kernels_have_the_given_deviation(self):
        keras.utils.set_random_seed(0)
        head = PointwiseMLP(128, 64, kernel_stddev=0.1)
        head.build((None, 3, 4, 128))
        for layer in head.layers[::2]:
            self.assertAllClose(np.asarray(layer.kernel).std(), 0.1, rtol=0.03)
            self.assertAllEqual(layer.bias, np.zeros(layer.bias.shape))

    @parameterized.parameters(("none", 2), ("hidden", 2), ("all", 2), ("all", 3), ("none", 1))
    def test_pooled(self, batch_norm, num_layers):
        head = PooledMLP(7, 6, num_layers, batch_norm)
        head.build(self.maps.shape)
        shake(head)
        x = self.maps.mean(axis=(1, 2))
        layers = {layer.name: layer for layer in head.layers}
        for index in range(1, num_layers + 1):
            has_norm = batch_norm == "all" or (batch_norm == "hidden" and index < num_layers)
            self.assertEqual(layers[f"linear{index}"].use_bias, batch_norm == "none")
            x = linear(layers[f"linear{index}"], x)
            if has_norm:
                self.assertEqual(layers[f"bn{index}"].center, index < num_layers)
                x = normalized(layers[f"bn{index}"], x)
            if index < num_layers:
                x = np.maximum(x, 0)
        self.assertAllClose(head(self.maps), x, rtol=1e-4, atol=1e-5)
        # Behind another head there is nothing to pool.
        pooled = self.maps.mean(axis=(1, 2))
        self.assertAllClose(head(pooled), x, rtol=1e-4, atol=1e-5)

    @parameterized.product(
        cls=(PointwiseMLP, PooledMLP), policy=("float32", "mixed_float16", "mixed_bfloat16")
    )
    def test_config_policies_and_gradients(self, cls, policy):
        keras.mixed_precision.set_global_policy(policy)
        head = cls(8, 4)
        self.assertEqual(cls.from_config(head.get_config()).get_config(), head.get_config())
        head.build(self.maps.shape)
        self.assertEqual(head.compute_output_shape(self.maps.shape), tuple(head(self.maps).shape))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(head(self.maps, training=True), "float32") ** 2)
        for gradient in tape.gradient(loss, [v.value for v in head.trainable_variables]):
            self.assertTrue(np.isfinite(np.asarray(gradient)).all())
        self.assertEqual({v.dtype for v in head.weights}, {"float32"})

    @parameterized.parameters(
        (PointwiseMLP, {"num_layers": 0}, "num_layers=0"),
        (PooledMLP, {"hidden_dim": 0}, "hidden_dim=0"),
        (PooledMLP, {"batch_norm": "last"}, "batch_norm='last'"),
        (PooledMLP, {"initialization": "zeros"}, "initialization='zeros'"),
    )
    def test_bad_arguments(self, cls, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            cls(**arguments)


if __name__ == "__main__":
    tf.test.main()
