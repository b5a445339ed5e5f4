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
from pixpro_keras.backbones import keras_cv_networks
from pixpro_keras.backbones.registry import imagenet_network
from tests.helpers.random_weights import photo, randomize
from tests.helpers.replicas import two_cpus
from tests.helpers.tiny_networks import RESNET6, RESNET10

# The project's, and those of the tests.
RESNETS = [f"resnet{depth}{kind}" for depth in (18, 34, 50, 101, 152) for kind in ("_v1_5", "_d")]
RESNETS += ["resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"]
RESNETS += [RESNET6, RESNET10]


def layers_of(model, kind):
    return [layer for layer in model.layers if isinstance(layer, kind)]


class NamesTest(tf.test.TestCase, parameterized.TestCase):
    def test_available_is_keras_applications_and_the_papers_family(self):
        constructors = {name for name in dir(keras.applications) if name[0].isupper()}
        expected = {name.lower() for name in constructors} - {"nasnetmobile", "nasnetlarge"}
        expected |= {*RESNETS, *keras_cv_networks.names()}
        self.assertEqual(backbones.available(), tuple(sorted(expected)))
        self.assertContainsSubset(
            {"resnet50", "mobilenetv2", "mobilenetv3small", "efficientnetb0", "convnexttiny"},
            backbones.available(),
        )

    def test_constructor_names_exist(self):
        for name in set(backbones.available()) - {*RESNETS, *keras_cv_networks.names()}:
            prefix, _, constructor = backbones.constructor_name(name).rpartition(".")
            self.assertEqual(prefix, "keras.applications")
            self.assertEqual(constructor.lower(), name)
            self.assertTrue(callable(getattr(keras.applications, constructor)))

    def test_only_keras_applications_have_a_constructor(self):
        self.assertFalse(backbones.is_keras_application("resnet50_v1_5"))
        with self.assertRaisesRegex(ValueError, "resnet50_v1_5"):
            backbones.constructor_name("resnet50_v1_5")

    @parameterized.parameters(
        ("resnet51", r"'resnet51'; did you mean .*resnet50"),
        ("ResNet50", r"'ResNet50'; did you mean resnet50"),
        ("MobileNetV2", r"'MobileNetV2'; did you mean mobilenetv2"),
        ("resnet50_v15", r"did you mean resnet50_v1_5"),
        ("nasnetmobile", r"NASNet apart.*Received: 'nasnetmobile'"),
        ("", r"backbones\.available\(\).*Received: ''\."),
    )
    def test_unknown_name(self, name, message):
        for function in (
            backbones.build,
            backbones.plain_network,
            backbones.preprocess_input,
            backbones.min_image_size,
            backbones.is_keras_application,
        ):
            with self.assertRaisesRegex(ValueError, message):
                function(name)

    @parameterized.parameters(
        ("resnet50", 8, "must be 32 or 16 for resnet50.*output_stride=8"),
        ("resnet18_v1_5", 4, "must be 32 or 16 for resnet18_v1_5.*output_stride=4"),
        ("mobilenetv2", 16, "must be 32 for mobilenetv2.*output_stride=16"),
        ("resnet50v2", 8, "must be 32 or 16 for resnet50v2.*output_stride=8"),
    )
    def test_output_stride_that_is_not_there(self, name, output_stride, message):
        with self.assertRaisesRegex(ValueError, message):
            backbones.build(name, output_stride=output_stride)

    @parameterized.parameters(
        ("resnet50", 32), ("inceptionv3", 75), ("xception", 71), ("resnet18_v1_5", 32)
    )
    def test_min_image_size(self, name, expected):
        self.assertEqual(backbones.min_image_size(name), expected)


def downloaded(result):
    """Result of Keras's download: a path, or an error."""
    is_error = isinstance(result, Exception)
    arguments = {"side_effect" if is_error else "return_value": result}
    return mock.patch.object(file_utils, "get_file", **arguments)


class ImagenetTest(tf.test.TestCase):
    @pytest.mark.slow  # builds EfficientNet four times, of three blocks
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
        # Also through what trains, and a checkpoint that sets its variables.
        trained = backbones.build("efficientnetb0")
        backbones.copy_weights(ours, trained)
        self.assertAllClose(trained(photo(64, 64), training=False), expected, rtol=1e-3, atol=1e-3)

    def test_without_a_network_the_error_is_one_line(self):
        error = Exception("URL fetch failure on SOMEWHERE:\nno route")
        wanted = r"ImageNet weights of mobilenet are neither .* downloaded \(URL fetch failure.*\)$"
        with downloaded(error), self.assertRaisesRegex(ValueError, wanted):
            imagenet_network("mobilenet")

    def test_other_networks_have_none(self):
        with self.assertRaisesRegex(
            ValueError, "no ImageNet weights of resnet50_v1_5; a torch file"
        ):
            imagenet_network("resnet50_v1_5")


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


class PreprocessInputTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("resnet50", keras.applications.resnet50),
        ("mobilenetv2", keras.applications.mobilenet_v2),
        ("densenet121", keras.applications.densenet),
        ("mobilenetv3small", keras.applications.mobilenet_v3),
        ("efficientnetb0", keras.applications.efficientnet),
    )
    def test_is_that_of_keras_applications(self, name, module):
        images = photo(5, 7, batch=3)
        expected = module.preprocess_input(images.copy())
        dataset = tf.data.Dataset.from_tensor_slices(images).batch(3)
        (mapped,) = dataset.map(backbones.preprocess_input(name))
        before = images.copy()
        np.testing.assert_array_equal(mapped, expected)
        np.testing.assert_array_equal(backbones.preprocess_input(name)(images), expected)
        np.testing.assert_array_equal(images, before)  # keras.applications works in place

    def test_paper_is_mean_and_deviation_in_rgb(self):
        images = photo(5, 7, batch=3)
        expected = (images.astype("float64") / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        (mapped,) = tf.data.Dataset.from_tensors(images).map(
            backbones.preprocess_input("resnet50_v1_5")
        )
        self.assertAllClose(mapped, expected, rtol=0, atol=1e-6)

    def test_every_name_gives_float32(self):
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        keras.config.set_dtype_policy("mixed_float16")
        images = tf.cast(photo(4, 4)[0], tf.uint8)
        for name in backbones.available():
            result = backbones.preprocess_input(name)(images)
            self.assertEqual(result.dtype, tf.float32, name)
            self.assertEqual(result.shape, (4, 4, 3), name)


class CopyWeightsTest(tf.test.TestCase, parameterized.TestCase):
    @pytest.mark.slow
    def test_a_dilated_network_finds_the_same_features_and_more(self):
        """Every second cell is equal if the stride is in 1x1 or in padded convolutions.

        Other ResNets are in `resnet_test.py`.
        """
        name = "resnet50v2"
        backbone = randomize(backbones.build(name))
        dilated = backbones.build(name, output_stride=16)
        backbones.copy_weights(backbone, dilated)
        image = backbones.preprocess_input(name)(photo(64, 96))
        coarse, fine = backbone(image, training=False), dilated(image, training=False)
        self.assertEqual((coarse.shape[1:3], fine.shape[1:3]), ((2, 3), (4, 6)))
        scale = np.abs(coarse).max()
        self.assertAllClose(fine[:, ::2, ::2] / scale, coarse / scale, atol=1e-5)

    def test_weights_and_names_stay(self):
        backbone = randomize(backbones.build("resnet18_v1_5"))
        dilated = backbones.build("resnet18_v1_5", output_stride=16)
        backbones.copy_weights(backbone, dilated)
        for one, two in zip(backbone.weights, dilated.weights, strict=True):
            self.assertEqual(one.path.split("/")[-2:], two.path.split("/")[-2:])
            self.assertAllEqual(one, two)

    def test_another_network(self):
        source, target = backbones.build("resnet18_v1_5"), backbones.build("resnet34_v1_5")
        with self.assertRaisesRegex(ValueError, "'resnet18_v1_5' are not those of resnet34_v1_5"):
            backbones.copy_weights(source, target)


if __name__ == "__main__":
    tf.test.main()
