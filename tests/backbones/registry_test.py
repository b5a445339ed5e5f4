import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras.src.applications import efficientnet
from keras.src.utils import file_utils

from pixpro_keras import backbones
from pixpro_keras.backbones.registry import imagenet_network
from tests.helpers.random_weights import photo, randomize
from tests.helpers.replicas import two_cpus


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


def downloaded(result):
    """Result of Keras's download: a path, or an error."""
    is_error = isinstance(result, Exception)
    arguments = {"side_effect" if is_error else "return_value": result}
    return mock.patch.object(file_utils, "get_file", **arguments)


class ImagenetTest(tf.test.TestCase):
    @pytest.mark.slow  # builds EfficientNet five times, of three blocks
    @mock.patch.object(efficientnet, "DEFAULT_BLOCKS_ARGS", efficientnet.DEFAULT_BLOCKS_ARGS[:2])
    def test_features_are_those_of_keras_applications(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        network = randomize(backbones.plain_network("efficientnetb0"))
        (normalization,) = layers_of(network, keras.layers.Normalization)
        normalization.set_weights([np.full(3, 0.45), np.array([0.23, 0.22, 0.21]), np.array(0)])
        network.save(folder / "file.h5")
        arguments = {"include_top": False, "input_shape": (None, None, 3)}
        with downloaded(folder / "file.h5"):
            stock = keras.applications.EfficientNetB0(weights="imagenet", **arguments)
            ours = imagenet_network("efficientnetb0")
        expected = stock(photo(64, 64), training=False)
        self.assertAllClose(ours(photo(64, 64), training=False), expected, rtol=1e-3, atol=1e-3)
        # Also through what trains, from ours or from a file with keras.applications' own.
        for source in (ours, stock):
            trained = backbones.build("efficientnetb0")
            backbones.copy_weights(source, trained)
            features = trained(photo(64, 64), training=False)
            self.assertAllClose(features, expected, rtol=1e-3, atol=1e-3)

    def test_without_a_network_the_error_is_one_line(self):
        error = Exception("URL fetch failure on SOMEWHERE:\nno route")
        wanted = r"ImageNet weights of mobilenet are not in .* downloaded \(URL fetch failure.*\)$"
        with downloaded(error), self.assertRaisesRegex(ValueError, wanted):
            imagenet_network("mobilenet")

    def test_other_networks_have_none(self):
        with self.assertRaisesRegex(
            ValueError, "no ImageNet weights of resnet50_v1_5; a torch file"
        ):
            imagenet_network("resnet50_v1_5")
        with self.assertRaisesRegex(ValueError, "no ImageNet weights of keras_cv:resnet18$"):
            imagenet_network("keras_cv:resnet18")


class BuildTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("resnet50", keras.applications.ResNet50),
        ("mobilenetv2", keras.applications.MobileNetV2),
    )
    @pytest.mark.slow
    def test_is_the_network_of_keras_applications(self, name, constructor):
        plain = randomize(constructor(include_top=False, weights=None))
        ours = backbones.build(name, bn_momentum=0.7)
        self.assertEqual(ours.name, name)
        self.assertEqual(ours.input_shape, (None, None, None, 3))
        self.assertEqual([w.path for w in ours.weights], [w.path for w in plain.weights])
        ours.set_weights(plain.get_weights())
        for height, width in ((64, 64), (65, 78)):
            images = photo(height, width, batch=2) / 128 - 1
            features = ours(images, training=False)
            self.assertGreater(np.std(features), 1e-2)
            np.testing.assert_array_equal(features, plain(images, training=False))

        norms = layers_of(ours, keras.layers.BatchNormalization)
        self.assertLen(norms, len(layers_of(plain, keras.layers.BatchNormalization)))
        self.assertEqual({layer.momentum for layer in norms}, {0.7})

    @parameterized.parameters("mobilenetv2", "resnet18_v1_5")
    def test_batch_norm_is_over_all_replicas(self, name):
        norms = layers_of(backbones.build(name), keras.layers.BatchNormalization)
        self.assertEqual({layer.synchronized for layer in norms}, {False})
        with two_cpus().scope():
            self.assertEqual({layer.synchronized for layer in norms}, {True})

    def test_plain_network_is_float32_under_any_policy(self):
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        keras.config.set_dtype_policy("mixed_bfloat16")
        for name in ("mobilenetv2", "resnet18_v1_5"):
            model = backbones.plain_network(name)
            self.assertEqual({layer.dtype_policy.name for layer in model.layers}, {"float32"})
            norms = layers_of(model, keras.layers.BatchNormalization)
            self.assertEqual({layer.synchronized for layer in norms}, {False})
        self.assertEqual(keras.config.dtype_policy().name, "mixed_bfloat16")

    # float16 rounds to 5e-4, bfloat16 to 4e-3; MobileNetV2, with its depthwise layers, amplifies it.
    @parameterized.parameters(("mobilenetv2", 100), ("resnet18_v1_5", 6))
    @pytest.mark.slow
    def test_follows_the_dtype_policy(self, name, amplification):
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        images = backbones.preprocess_input(name)(photo(64, 64))
        exact = randomize(backbones.build(name))
        expected = exact(images, training=False).numpy()
        for policy, dtype, rounding in (
            ("mixed_float16", tf.float16, 2**-11),
            ("mixed_bfloat16", tf.bfloat16, 2**-8),
        ):
            keras.config.set_dtype_policy(policy)
            model = backbones.build(name)
            model.set_weights(exact.get_weights())
            features = model(images, training=False)
            self.assertEqual(features.dtype, dtype)
            self.assertEqual({w.dtype for w in model.weights}, {"float32"})
            error = np.std(tf.cast(features, tf.float32) - expected) / np.std(expected)
            self.assertBetween(error, 0.1 * rounding, amplification * rounding)

    @parameterized.parameters(("resnet50", "_3_bn"), ("resnet18_v1_5", "_2_bn"))
    @pytest.mark.slow
    def test_starts_as_in_the_paper(self, name, last_norm):
        model = backbones.build(name)
        for layer in layers_of(model, keras.layers.Conv2D):
            height, width, _, filters = layer.kernel.shape
            normal = layer.kernel.numpy() / np.sqrt(2 / (height * width * filters))
            self.assertAllClose(normal.std(), 1, rtol=0.05, atol=0, msg=layer.name)
            self.assertGreater(np.abs(normal).max(), 2.5)  # not truncated at 2
        num_zero = 0
        for layer in layers_of(model, keras.layers.BatchNormalization):
            is_last = layer.name.startswith("conv") and layer.name.endswith(last_norm)
            num_zero += is_last
            self.assertAllEqual(layer.gamma, np.full(layer.gamma.shape, 0.0 if is_last else 1.0))
        self.assertEqual(num_zero, {"resnet50": 16, "resnet18_v1_5": 8}[name])
        # Layers of one shape do not share their values.
        kernels = [model.get_layer(f"conv2_block{i}_2_conv").kernel for i in (1, 2)]
        self.assertNotAllClose(*kernels)

    @pytest.mark.slow
    def test_seed_decides_the_weights(self):
        drawn = []
        for seed in (1, 1, 2):
            keras.utils.set_random_seed(seed)
            drawn.append(backbones.build("resnet18_v1_5").get_weights()[0])
        np.testing.assert_array_equal(drawn[0], drawn[1])
        self.assertNotAllClose(drawn[0], drawn[2])

    @parameterized.parameters(
        ("resnet50", 8, "must be 32 or 16 for resnet50.*output_stride=8"),
        ("resnet18_v1_5", 4, "must be 32 or 16 for resnet18_v1_5.*output_stride=4"),
        ("mobilenetv2", 16, "must be 32 for mobilenetv2.*output_stride=16"),
        ("resnet50v2", 8, "must be 32 or 16 for resnet50v2.*output_stride=8"),
    )
    def test_output_stride_that_is_not_there(self, name, output_stride, message):
        with self.assertRaisesRegex(ValueError, message):
            backbones.build(name, output_stride=output_stride)


if __name__ == "__main__":
    tf.test.main()
