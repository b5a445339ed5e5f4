from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.layers import depthwise_conv
from pixpro_keras.layers.depthwise_conv import DepthwiseConv2D

SLOW = ("DepthwiseConv2dNativeBackpropInput", "DepthwiseConv2dNativeBackpropFilter")


def make_pair(shape, **settings):
    """Keras's layer in float32 and ours in bfloat16, with weights and an input that bfloat16 has."""
    rng = np.random.default_rng(0)
    stock = keras.layers.DepthwiseConv2D(**settings)
    ours = DepthwiseConv2D(dtype="mixed_bfloat16", **settings)
    weights = []
    for layer in (stock, ours):
        layer.build(shape)
    for weight in stock.weights:
        weights.append(tf.cast(rng.standard_normal(weight.shape), tf.bfloat16).numpy())
    for layer in (stock, ours):
        layer.set_weights([weight.astype("float32") for weight in weights])
    return stock, ours, tf.cast(rng.standard_normal(shape), tf.bfloat16)


def run(layer, x, training=True, signature=None):
    """Output, gradients of a weighted sum of the outputs, and operations of the graph."""

    @tf.function(input_signature=[tf.TensorSpec(signature or x.shape, x.dtype)])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(layer(x, training=training), tf.float32)
            factors = tf.reshape(tf.range(tf.size(y)) % 7 - 3, tf.shape(y))
            loss = tf.reduce_sum(tf.cast(factors, tf.float32) * y)
        return y, tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])

    operations = [op.type for op in step.get_concrete_function().graph.get_operations()]
    return *step(x), operations


class DepthwiseConv2DTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(kernel_size=(3, 5), strides=(1, 2), batch_size=(0, None))
    def test_an_empty_batch_has_gradients_of_zero(self, kernel_size, strides, batch_size):
        shape = (2, 8, 8, 4)
        settings = {"kernel_size": kernel_size, "strides": strides, "padding": "same"}
        _, ours, x = make_pair(shape, use_bias=False, **settings)
        _, (by_inputs, by_kernel), _ = run(ours, x[:0], signature=(batch_size, *shape[1:]))
        self.assertEqual(by_inputs.shape, (0, *shape[1:]))
        self.assertAllEqual(by_kernel, np.zeros((kernel_size, kernel_size, 4, 1)))

    @parameterized.product(
        kernel_size=(3, 5, (5, 7), 4),
        strides=(1, 2, 3),
        padding=("same", "valid"),
        size=((9, 8), (7, 10)),
    )
    def test_equals_keras_in_float32(self, kernel_size, strides, padding, size):
        shape = (3, *size, 4)
        stock, ours, x = make_pair(
            shape, kernel_size=kernel_size, strides=strides, padding=padding, activation="relu"
        )
        expected, expected_gradients, _ = run(stock, tf.cast(x, tf.float32))
        found, gradients, operations = run(ours, x)
        self.assertNotIn(SLOW[0], operations)
        self.assertEqual(SLOW[1] in operations, kernel_size in (3, 4))
        for one, other in zip([found, *gradients], [expected, *expected_gradients], strict=True):
            other = other.numpy()
            # Each of a sum's terms is rounded to 8 bits.
            self.assertAllClose(one, other, rtol=0.02, atol=0.01 * abs(other).max())

    def test_batches_of_any_size(self):
        shape = (3, 9, 8, 4)
        _, ours, x = make_pair(shape, kernel_size=5, padding="same")
        found, gradients, _ = run(ours, x, signature=(None, *shape[1:]))
        expected, expected_gradients, _ = run(ours, x)
        for one, other in zip([found, *gradients], [expected, *expected_gradients], strict=True):
            self.assertAllEqual(one, other)

    @parameterized.parameters(
        ({"dilation_rate": 2}, True, None),
        ({"depth_multiplier": 2}, True, None),
        ({}, False, None),
        ({}, True, (None, None, None, 4)),
    )
    def test_all_else_is_keras(self, settings, training, signature):
        settings = {"kernel_size": 3, "padding": "same"} | settings
        _, ours, x = make_pair((3, 9, 8, 4), **settings)
        self.assertIn(SLOW[0], run(ours, x, training, signature)[2])

    def test_float32_and_accelerators_are_keras(self):
        _, ours, x = make_pair((3, 9, 8, 4), kernel_size=3)
        with mock.patch.object(depthwise_conv, "has_accelerator", lambda: True):
            self.assertIn(SLOW[0], run(ours, x)[2])
        plain = DepthwiseConv2D(3)
        plain.build(x.shape)
        self.assertIn(SLOW[0], run(plain, tf.cast(x, tf.float32))[2])

    def test_networks_of_keras_train_with_it(self):
        network = backbones.build("mobilenetv3small")
        kinds = [
            type(x) for x in network._flatten_layers() if "DepthwiseConv2D" in type(x).__name__
        ]
        self.assertEqual({*kinds}, {DepthwiseConv2D})
        self.assertLen(kinds, 11)
        plain = backbones.plain_network("mobilenetv3small")
        self.assertNotIn(DepthwiseConv2D, [type(layer) for layer in plain.layers])


if __name__ == "__main__":
    tf.test.main()
