import inspect
import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.backbones import resnet
from pixpro_keras.weights import export_backbone
from tests.helpers.random_weights import photo, randomize


class ConstructorsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.backbone = randomize(backbones.build("resnet18_v1_5"))
        cls.images = photo(64, 96) / 128 - 1
        cls.maps = cls.backbone(cls.images, training=False).numpy()

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    @pytest.mark.slow
    def test_weights_of_an_export(self):
        (path,) = export_backbone(self.backbone, "resnet18_v1_5", self.folder)
        for arguments, expected in (
            ({}, self.maps),
            ({"pooling": "avg"}, self.maps.mean((1, 2))),
            ({"pooling": "max"}, self.maps.max((1, 2))),
            ({"input_shape": (64, 96, 3)}, self.maps),
        ):
            network = pixpro_keras.ResNet18V1_5(include_top=False, weights=path, **arguments)
            self.assertAllClose(network(self.images, training=False), expected, rtol=1e-5)
        self.assertEqual(network.input_shape, (None, 64, 96, 3))

    def test_top_and_its_weights_file(self):
        network = randomize(pixpro_keras.ResNet18V1_5(include_top=True, classes=7))
        scores = network(self.images, training=False)
        self.assertEqual(scores.shape, (1, 7))
        self.assertAllClose(np.sum(scores), 1.0)
        path = self.folder / "all.weights.h5"
        network.save_weights(path)
        again = pixpro_keras.ResNet18V1_5(include_top=True, classes=7, weights=path)
        self.assertAllEqual(again(self.images, training=False), scores)

    def test_a_top_over_weights_of_a_backbone_is_said_to_be_new(self):
        path = self.folder / "backbone.keras"
        self.backbone.save(path)
        with self.assertLogs("absl", "WARNING") as logs:
            pixpro_keras.ResNet18V1_5(include_top=True, weights=path)
        self.assertIn(f"{path}: only the backbone is read; the top has new weights", logs.output[0])

    def test_arguments_have_the_order_of_keras_applications(self):
        theirs = inspect.signature(keras.applications.ResNet50).parameters
        ours = list(inspect.signature(pixpro_keras.ResNet50V1_5).parameters)
        self.assertEqual(ours, [x for x in theirs if x != "name"])

    def test_layers_before_the_network(self):
        path = self.folder / "backbone.keras"
        self.backbone.save(path)
        inputs = keras.Input((64, 96, 3))
        shifted = keras.layers.Rescaling(1 / 128, offset=-1)(inputs)
        network = pixpro_keras.ResNet18V1_5(False, path, shifted, pooling="avg")
        self.assertIs(network.input, inputs)
        pooled = network(photo(64, 96), training=False)
        self.assertAllClose(pooled, self.maps.mean((1, 2)), rtol=1e-5)

    @parameterized.parameters(
        ("ResNet18V1_5", 11_176_512),
        ("ResNet34V1_5", 21_284_672),
        ("ResNet50V1_5", 23_508_032),
        ("ResNet101V1_5", 42_500_160),
        ("ResNet152V1_5", 58_143_808),
    )
    @pytest.mark.slow
    # The values are not looked at: drawing them takes longest.
    @mock.patch.object(resnet, "he_normal_fan_out", keras.initializers.Zeros)
    def test_sizes_are_torchvisions(self, name, num_parameters):
        network = getattr(pixpro_keras, name)()
        trained = sum(int(np.prod(w.shape)) for w in network.trainable_weights)
        self.assertEqual(trained, num_parameters)
        self.assertEqual(getattr(pixpro_keras, name).__name__, name)

    @pytest.mark.slow
    def test_errors(self):
        (path,) = export_backbone(self.backbone, "resnet18_v1_5", self.folder)
        for arguments, message in (
            ({"weights": path}, "must hold resnet34_v1_5. Received.*with resnet18_v1_5"),
            ({"weights": "/no/a.weights.h5"}, "/no/a.weights.h5: no weights of resnet34_v1_5"),
            ({"weights": "imagenet"}, "no ImageNet weights of resnet34_v1_5"),
            ({"pooling": "mean"}, "Received: 'mean'"),
            ({"input_shape": (16, 64, 3)}, r"at least 32. Received: input_shape=\(16, 64, 3\)"),
            ({"input_shape": (64, 64, 1)}, r"Received: input_shape=\(64, 64, 1\)"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                pixpro_keras.ResNet34V1_5(**arguments)


if __name__ == "__main__":
    tf.test.main()
