from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import ops
from pixpro_keras.layers.pixel_propagation import PixelPropagation
from tests.helpers.reference_weights import by_rule
from tests.helpers.shared_data import shared_path


def set_by_rule(layer, channels, num_layers):
    if num_layers == 1:
        names = {"linear1": "value_transform"}
    else:
        names = {n: f"value_transform.{n}" for n in ("linear1", "bn1", "linear2")}
    for part in layer.transform.layers:
        name = names[part.name]
        if part.name.startswith("bn"):
            gamma = by_rule(f"{name}.weight", (channels,))
            beta = by_rule(f"{name}.bias", (channels,))
            part.set_weights([gamma, beta, np.zeros(channels), np.ones(channels)])
        else:
            kernel = by_rule(f"{name}.weight", (channels, channels, 1, 1))
            bias = by_rule(f"{name}.bias", (channels,))
            part.set_weights([kernel.transpose(2, 3, 1, 0), bias])


def value_and_gradients(layer, x, jit_compile):
    """Value of a traced call and its gradients: input and trained variables."""

    @tf.function(jit_compile=jit_compile)
    def call(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.sin(y))
        return y, tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])

    return call(x)


class PixelPropagationTest(tf.test.TestCase, parameterized.TestCase):
    def tearDown(self):
        keras.mixed_precision.set_global_policy("float32")
        super().tearDown()

    def test_matches_the_official_code(self):
        stored = np.load(shared_path("reference", "pixel_propagation.npz"))
        x = stored["x"]
        cases = [name for name in stored.files if name.startswith("y_l")]
        self.assertNotEmpty(cases)
        for name in cases:
            num_layers, gamma = name[3:].split("_gamma")
            layer = PixelPropagation(float(gamma), int(num_layers))
            layer.build(x.shape)
            if int(num_layers):
                set_by_rule(layer, x.shape[-1], int(num_layers))
            self.assertAllClose(layer(x, training=True), stored[name], atol=1e-4, rtol=0, msg=name)

    @parameterized.parameters((2.0, (3, 4)), (1.0, (2, 2)), (0.5, (3, 3)), (4.0, (5, 1)))
    def test_equals_a_loop(self, gamma, size):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2, *size, 6)).astype("float32")
        layer = PixelPropagation(gamma, num_transform_layers=1)
        y = np.array(layer(x)).reshape(2, -1, 6)
        kernel, bias = (np.array(w) for w in layer.get_weights())
        for image in range(2):
            pixels = x[image].reshape(-1, 6)
            unit = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
            values = pixels @ kernel[0, 0] + bias
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            for i in range(len(pixels)):
                cosines = np.maximum(unit @ unit[i], 0.0) + (1e-6 if gamma < 1 else 0.0)
                expected = sum(cosines[j] ** gamma * values[j] for j in range(len(pixels)))
                self.assertAllClose(y[image, i], expected, atol=1e-4)

    @parameterized.parameters(False, True)
    def test_by_blocks(self, jit_compile):
        layer = PixelPropagation(2.0)
        x = tf.random.stateless_normal((2, 6, 4, 8), seed=(1, 2))
        layer.build(x.shape)
        expected, expected_gradients = value_and_gradients(layer, x, jit_compile)
        with mock.patch.object(ops, "MAX_ROWS", 7):  # 24 pixels: 4 blocks of 6
            found, gradients = value_and_gradients(layer, x, jit_compile)
        self.assertAllClose(found, expected, rtol=1e-5, atol=1e-5)
        for one, two in zip(gradients, expected_gradients, strict=True):
            self.assertAllClose(one, two, rtol=1e-4, atol=1e-4)

    @parameterized.product(
        policy=["float32", "mixed_float16", "mixed_bfloat16"], num_layers=[0, 1, 2, 3]
    )
    def test_policies_and_config(self, policy, num_layers):
        keras.mixed_precision.set_global_policy(policy)
        layer = PixelPropagation(2.0, num_layers)
        x = tf.random.stateless_normal((2, 3, 3, 8), seed=(1, 2))
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(tf.cast(y, "float32") ** 2)
        self.assertEqual(y.dtype.name, keras.mixed_precision.dtype_policy().compute_dtype)
        gradients = tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])
        for gradient in gradients:
            self.assertAllEqual(np.isfinite(gradient), np.ones(gradient.shape, bool))
        copy = PixelPropagation.from_config(layer.get_config())
        copy.build(x.shape)
        copy.set_weights(layer.get_weights())
        self.assertAllClose(copy(x), layer(x))

    @parameterized.parameters({"gamma": 0}, {"gamma": -1}, {"num_transform_layers": 4})
    def test_bad_arguments(self, **kwargs):
        with self.assertRaisesRegex(ValueError, next(iter(kwargs))):
            PixelPropagation(**kwargs)


if __name__ == "__main__":
    tf.test.main()
