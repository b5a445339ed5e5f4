from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers import small_maps
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.layers.small_maps import SideBySide, faster_side_by_side


def convolve(inputs, kernel, by_outputs, stride, padding):
    """TensorFlow's outputs and gradient of the inputs."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = tf.nn.conv2d(inputs, kernel, stride, padding)
    return outputs, tape.gradient(outputs, inputs, by_outputs)


class SideBySideTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        case=((1, "SAME", 3, 3), (1, "SAME", 5, 4), (1, "VALID", 6, 5), (2, "VALID", 7, 8)),
        batch=(1, 3),
        is_static=(True, False),
    )
    def test_equals_a_convolution_of_single_maps(self, case, batch, is_static):
        stride, padding, height, width = case
        inputs = tf.random.stateless_normal((batch, height, width, 6), (0, 1))
        kernel = tf.random.stateless_normal((3, 3, 6, 4), (0, 2))
        shape = tf.nn.conv2d(inputs, kernel, stride, padding).shape
        by_outputs = tf.random.stateless_normal(shape, (0, 3))
        first = batch if is_static else None

        @tf.function(
            input_signature=[tf.TensorSpec((first, *x.shape[1:])) for x in (inputs, by_outputs)]
        )
        def run(inputs, by_outputs):
            row = SideBySide(inputs.shape[1:3], stride, padding)
            return row.outputs(inputs, kernel), row.input_gradient(by_outputs, kernel)

        expected = convolve(inputs, kernel, by_outputs, stride, padding)
        for found, one in zip(run(inputs, by_outputs), expected, strict=True):
            self.assertAllClose(found, one, atol=1e-5)

    @parameterized.parameters({"padding": "same"}, {"padding": "valid", "strides": 2})
    def test_a_layer_gives_the_same_with_tiles_and_without(self, **settings):
        layer = Conv2D(512, 3, dtype="mixed_bfloat16", **settings)
        inputs = tf.random.stateless_normal((2, 4, 4, 8), (0, 1), dtype=tf.float32)
        layer.build(inputs.shape)
        results = []
        for has_tiles in (False, True):

            @tf.function
            def run(inputs):
                with tf.GradientTape() as tape:
                    tape.watch(inputs)
                    outputs = layer(inputs, training=True)
                return outputs, *tape.gradient(outputs, [inputs, layer.kernel.value])

            with mock.patch.object(small_maps, "_multiplies_tiles", return_value=has_tiles):
                results.append(run(inputs))
        for one, other in zip(*results, strict=True):
            self.assertAllClose(one, other, rtol=1e-2, atol=2e-2)

    def test_inference_gives_the_same_with_tiles_and_without(self):
        layer = Conv2D(512, 3, padding="same", use_bias=False, dtype="mixed_bfloat16")
        norm = BatchNormalization(dtype="mixed_bfloat16")
        inputs = tf.random.stateless_normal((2, 4, 4, 8), (0, 1), dtype=tf.float32)
        results = []
        for has_tiles in (False, True):
            with mock.patch.object(small_maps, "_multiplies_tiles", return_value=has_tiles):
                results.append(tf.function(lambda x: norm(layer(x), training=False))(inputs))
        self.assertAllClose(*results, rtol=1e-2, atol=2e-2)

    @parameterized.parameters(
        ("bfloat16", 512, 3, 1, "SAME", True),
        ("bfloat16", 512, 8, 2, "VALID", True),
        ("bfloat16", 512, 7, 2, "VALID", False),
        ("bfloat16", 512, 16, 2, "VALID", False),
        ("bfloat16", 512, 6, 2, "SAME", False),
        ("bfloat16", 512, 9, 3, "VALID", False),
        ("bfloat16", 512, 3, 1, "EXPLICIT", False),
        ("bfloat16", 512, 8, 1, "SAME", False),
        ("bfloat16", 256, 3, 1, "SAME", False),
        ("float32", 512, 3, 1, "SAME", False),
        ("float16", 512, 3, 1, "SAME", False),
    )
    def test_where_it_is_faster(self, dtype, filters, width, stride, padding, expected):
        inputs, kernel = tf.zeros((1, 3, width, 4), dtype), tf.zeros((3, 3, 4, filters), dtype)
        for has_tiles in (False, True):
            with mock.patch.object(small_maps, "_multiplies_tiles", return_value=has_tiles):
                found = faster_side_by_side(inputs, kernel, stride, padding)
            self.assertEqual(found is not None, expected and has_tiles)


if __name__ == "__main__":
    tf.test.main()
