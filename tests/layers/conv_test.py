from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers import conv
from pixpro_keras.layers.conv import Conv2D

SHAPE = (2, 5, 3, 6)


def make_pair(dtype="float32", shape=SHAPE, **settings):
    """Keras's layer and ours with the same random weights, and an input."""
    rng = np.random.default_rng(0)
    settings = {"filters": 4, "kernel_size": 1, "bias_initializer": "ones"} | settings
    layers = [kind(dtype=dtype, **settings) for kind in (keras.layers.Conv2D, Conv2D)]
    for layer in layers:
        layer.build(shape)
    weights = [rng.standard_normal(w.shape).astype("float32") for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers, tf.constant(rng.standard_normal(shape), "float32")


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

    @parameterized.product(
        settings=(
            {"padding": "same"},
            {"padding": "valid", "use_bias": False},
            {"padding": "same", "dilation_rate": (1, 3), "kernel_size": (1, 3)},
        ),
        training=(True, False),
    )
    def test_a_dilated_convolution_is_one_operation(self, settings, training):
        shape = (2, 9, 7, 6)
        settings = {"kernel_size": 3, "dilation_rate": 2, "activation": "relu"} | settings
        (stock, ours), x = make_pair(shape=shape, **settings)
        signature = (None, *shape[1:])
        expected, expected_gradients, _ = run(stock, x, training, signature)
        found, gradients, operations = run(ours, x, training, signature)
        self.assertNotIn("SpaceToBatchND", operations)
        self.assertNotIn("Conv2DBackpropInput", operations)
        self.assertAllClose(found, expected, atol=1e-5)
        for one, other in zip(gradients, expected_gradients, strict=True):
            self.assertAllClose(one, other, rtol=1e-5, atol=1e-4)

    @parameterized.parameters(True, False)
    def test_a_dilated_convolution_of_maps_of_any_size(self, training):
        (stock, ours), x = make_pair(kernel_size=3, dilation_rate=2, padding="same")
        signature = (None, None, None, SHAPE[3])
        expected, expected_gradients, _ = run(stock, x, training, signature)
        found, gradients, operations = run(ours, x, training, signature)
        self.assertNotIn("SpaceToBatchND", operations)
        self.assertAllClose(found, expected, atol=1e-5)
        for one, other in zip(gradients, expected_gradients, strict=True):
            self.assertAllClose(one, other, rtol=1e-5, atol=1e-4)

    def test_a_dilated_convolution_of_an_accelerator_is_one_operation(self):
        (stock, ours), x = make_pair(kernel_size=3, dilation_rate=2, padding="same")

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = ours(x)
            return outputs, tape.gradient(outputs, [x, ours.kernel.value])

        with mock.patch.object(conv, "has_accelerator", return_value=True):
            self.assertAllClose(ours(x), stock(x), atol=1e-5)
            # Its gradients are traced only: a CPU has them with oneDNN alone.
            nodes = step.get_concrete_function(x).graph.as_graph_def().node
        operations = [node.op for node in nodes]
        self.assertNotIn("SpaceToBatchND", operations)
        self.assertEqual(operations.count("Conv2D"), 1)
        self.assertEqual(operations.count("Conv2DBackpropInput"), 1)
        self.assertEqual(operations.count("Conv2DBackpropFilter"), 1)

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

    @parameterized.product(
        settings=(
            {"strides": 2},
            {"kernel_size": 3, "filters": 128},
            {"kernel_size": 3, "filters": 128, "padding": "same", "activation": "relu"},
            {"kernel_size": 3, "filters": 128, "strides": 2},
            {"kernel_size": 3, "filters": 128, "strides": 2, "padding": "same", "use_bias": False},
        ),
        size=((6, 8), (8, 4), (5, 7), (8, 5)),
    )
    def test_in_16_bits_gradients_of_kernels_are_products(self, settings, size):
        shape = (2, *size, 6)
        (stock, ours), x = make_pair("mixed_bfloat16", shape, **settings)
        expected, expected_gradients, _ = run(stock, x, signature=(None, *shape[1:]))
        found, gradients, operations = run(ours, x, signature=(None, *shape[1:]))
        is_product = settings.get("kernel_size", 1) == 3 or all(side % 2 == 0 for side in size)
        self.assertEqual("Conv2DBackpropFilter" not in operations, is_product)
        self.assertAllClose(found, expected, rtol=1e-2, atol=2e-2)
        for one, other in zip(gradients, expected_gradients, strict=True):
            scale = float(tf.reduce_max(tf.abs(other)))
            # Keras's own bias rounds by 2 % from run to run.
            self.assertAllClose(one / scale, other / scale, atol=4e-2)

    @parameterized.parameters({"filters": 64}, {"kernel_size": 5}, {"shape": (2, 11, 11, 6)})
    def test_in_16_bits_other_kernels_are_keras_own(self, shape=(2, 7, 7, 6), **settings):
        settings = {"kernel_size": 3, "filters": 128} | settings
        (_, ours), x = make_pair("mixed_bfloat16", shape, **settings)
        self.assertNotIn("MatMul", run(ours, x, signature=shape)[2])

    @parameterized.parameters(
        ({"kernel_size": 3, "filters": 128}, True),
        ({"strides": 2}, True),
        ({"groups": 2}, True),
        ({}, False),
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

    @parameterized.parameters("GPU", "TPU")
    def test_on_an_accelerator_it_is_keras_own(self, kind):
        (_, ours), x = make_pair()
        devices = {kind: [f"{kind}:0"]}
        with mock.patch.object(
            tf.config, "list_logical_devices", side_effect=lambda asked: devices.get(asked, [])
        ):
            self.assertIn("Conv2D", run(ours, x)[2])

    def test_a_copy_of_a_network_keeps_it(self):
        inputs = keras.Input(SHAPE[1:])
        model = keras.Model(inputs, Conv2D(4, 1, name="conv")(inputs))
        copy = keras.Model.from_config(model.get_config())
        self.assertIsInstance(copy.get_layer("conv"), Conv2D)


if __name__ == "__main__":
    tf.test.main()
