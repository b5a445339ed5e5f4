from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.conv import Conv2D

SHAPE = (2, 5, 3, 6)


def make_pair(dtype="float32", **settings):
    """Keras's layer and ours with the same random weights, and an input."""
    rng = np.random.default_rng(0)
    settings = {"filters": 4, "kernel_size": 1, "bias_initializer": "ones"} | settings
    layers = [kind(dtype=dtype, **settings) for kind in (keras.layers.Conv2D, Conv2D)]
    for layer in layers:
        layer.build(SHAPE)
    weights = [rng.standard_normal(w.shape).astype("float32") for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers, tf.constant(rng.standard_normal(SHAPE), "float32")


def run(layer, x, training=True, signature=(None, *SHAPE[1:])):
    """Output, gradients of a sum of squares, and operations of the graph."""

    @tf.function(input_signature=[tf.TensorSpec(signature)])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.square(tf.cast(y, tf.float32)))
        gradients = tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])
        return y, gradients

    operations = [op.type for op in step.get_concrete_function().graph.get_operations()]
    return *step(x), operations


class Conv2DTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        {}, {"use_bias": False}, {"activation": "relu"}, {"padding": "same", "dilation_rate": 2}
    )
    def test_product_equals_keras_convolution(self, **settings):
        (stock, ours), x = make_pair(**settings)
        for signature in (SHAPE, (None, *SHAPE[1:])):
            expected, expected_gradients, _ = run(stock, x, signature=signature)
            found, gradients, operations = run(ours, x, signature=signature)
            self.assertIn("MatMul", operations)
            self.assertNotIn("Conv2D", operations)
            self.assertAllClose(found, expected, atol=1e-5)
            for one, other in zip(gradients, expected_gradients, strict=True):
                self.assertAllClose(one, other, rtol=1e-5, atol=1e-4)

    @parameterized.parameters("mixed_bfloat16", "mixed_float16")
    def test_mixed_precision_stays_near_float32(self, policy):
        (_, ours), x = make_pair(policy)
        (_, exact), _ = make_pair()
        found, gradients, _ = run(ours, x)
        expected, expected_gradients, _ = run(exact, x)
        self.assertEqual(found.dtype.name, policy.removeprefix("mixed_"))
        self.assertAllClose(tf.cast(found, "float32"), expected, atol=6e-2)
        for one, other in zip(gradients, expected_gradients, strict=True):
            scale = float(tf.reduce_max(tf.abs(other)))
            self.assertAllClose(one / scale, other / scale, atol=2e-2)

    @parameterized.parameters(
        ({"kernel_size": 3}, True), ({"strides": 2}, True), ({"groups": 2}, True), ({}, False)
    )
    def test_what_is_no_product_or_not_trained_is_keras_own(self, settings, training):
        (stock, ours), x = make_pair(**settings)
        found, _, operations = run(ours, x, training)
        self.assertNotIn("MatMul", operations)
        self.assertAllEqual(found, run(stock, x, training)[0])

    def test_maps_of_unknown_size_are_keras_own(self):
        (stock, ours), x = make_pair()
        found, _, operations = run(ours, x, signature=(None, None, None, 6))
        self.assertNotIn("MatMul", operations)
        self.assertAllEqual(found, run(stock, x)[0])

    def test_on_a_gpu_it_is_keras_own(self):
        (_, ours), x = make_pair()
        with mock.patch.object(tf.config, "list_logical_devices", return_value=["GPU:0"]):
            self.assertIn("Conv2D", run(ours, x)[2])

    def test_a_copy_of_a_network_keeps_it(self):
        inputs = keras.Input(SHAPE[1:])
        model = keras.Model(inputs, Conv2D(4, 1, name="conv")(inputs))
        copy = keras.Model.from_config(model.get_config())
        self.assertIsInstance(copy.get_layer("conv"), Conv2D)


if __name__ == "__main__":
    tf.test.main()
