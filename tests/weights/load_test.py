import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.weights import export_backbone
from tests.helpers.random_weights import photo, randomize


class LoadBackboneTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    @parameterized.parameters("keras_applications", "keras")
    @pytest.mark.slow
    def test_our_files(self, chosen):
        backbone = randomize(backbones.build("mobilenetv2"))
        (path,) = export_backbone(backbone, "mobilenetv2", self.folder, [chosen])
        network = pixpro_keras.load_backbone(path)
        images = photo(64, 96) / 128 - 1
        np.testing.assert_array_equal(
            network(images, training=False), backbone(images, training=False)
        )

    @parameterized.parameters(".", "export")
    def test_folder_of_a_run(self, where):
        backbone = backbones.build("resnet10_v1_5")
        export_backbone(backbone, "resnet10_v1_5", self.folder / where)
        network = pixpro_keras.load_backbone(self.folder, "pooled")
        self.assertEqual(network.output_shape, (None, 512))
        np.testing.assert_array_equal(network.get_weights()[0], backbone.get_weights()[0])

    def test_a_name_that_is_not_that_of_the_weights(self):
        name = "mobilenetv3small"
        files = export_backbone(backbones.build(name), name, self.folder)
        self.assertLen(files, 2)
        for path in (self.folder, *files, name):
            with self.assertRaisesRegex(ValueError, f"{path} is {name}, and `name` is resnet50"):
                pixpro_keras.load_backbone(path, name="resnet50")
            pixpro_keras.load_backbone(path, name=name)

    def test_a_network_that_does_not_say_its_name(self):
        backbone = randomize(backbones.plain_network("resnet10_v1_5"))
        inputs = keras.Input((None, None, 3))
        same = keras.Model(inputs, backbone(inputs), name="mine")
        scaled = keras.Model(inputs, backbone(inputs / 127.5 - 1), name="mine")
        longer = keras.Model(inputs, keras.layers.AveragePooling2D(2)(backbone(inputs)))
        other = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs), name="mine")
        for network, message in (
            (same, None),
            (scaled, "has the same weights, but other layers"),
            (longer, "has the same weights, but other layers"),
            (other, "is not resnet10_v1_5: the weights of 'mine' are not"),
        ):
            path = self.folder / "mine.keras"
            network.save(path)
            pixpro_keras.load_backbone(path, name=str(path))
            if message is None:
                pixpro_keras.load_backbone(path, name="resnet10_v1_5")
                continue
            with self.assertRaisesRegex(ValueError, f"^{path} .*{message}"):
                pixpro_keras.load_backbone(path, name="resnet10_v1_5")

    def test_a_weights_file_that_does_not_say_its_network(self):
        backbone = randomize(backbones.build("resnet10_v1_5"))
        path = self.folder / "a.weights.h5"
        backbone.save_weights(path)
        network = pixpro_keras.load_backbone(path, name="resnet10_v1_5")
        for one, two in zip(network.weights, backbone.weights, strict=True):
            self.assertAllEqual(one, two)
        with self.assertRaisesRegex(ValueError, "no weights of resnet34_v1_5"):
            pixpro_keras.load_backbone(path, name="resnet34_v1_5")

    def test_name(self):
        network = pixpro_keras.load_backbone("resnet10_v1_5", features="c2-c5")
        self.assertEqual(network.output["c5"].shape, (None, None, None, 512))

    def test_imagenet_is_of_a_network(self):
        with self.assertRaisesRegex(
            ValueError, "`name` must be the network whose ImageNet weights"
        ):
            pixpro_keras.load_backbone("imagenet")
        with self.assertRaisesRegex(ValueError, "no ImageNet weights of resnet10_v1_5"):
            pixpro_keras.load_backbone("imagenet", name="resnet10_v1_5")

    @parameterized.parameters("a.keras", "a.h5", "a.weights.h5")
    def test_a_classifier_with_its_top_is_refused(self, file):
        backbone = backbones.build("resnet10_v1_5")
        pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
        whole = keras.Model(backbone.input, keras.layers.Dense(10)(pooled))
        if file.endswith(".weights.h5"):
            whole.save_weights(self.folder / file)
        else:
            whole.save(self.folder / file)
        with self.assertRaisesRegex(ValueError, f"{file}: .* a classifier with its top"):
            pixpro_keras.load_backbone(self.folder / file, name="resnet10_v1_5")

    def test_errors(self):
        export_backbone(backbones.build("resnet10_v1_5"), "resnet10_v1_5", self.folder / "run")
        keras_file = self.folder / "run" / "backbone.keras"
        half = self.folder / "half.keras"
        half.write_bytes(keras_file.read_bytes()[:10000])
        weights = self.folder / "other.weights.h5"
        backbones.build("resnet10_v1_5").save_weights(weights)
        broken = self.folder / "broken.weights.h5"
        broken.write_bytes(weights.read_bytes()[:10000])
        text = self.folder / "notes.txt"
        text.write_text("hello")
        onnx = self.folder / "a.onnx"
        onnx.write_bytes(b"")
        served = self.folder / "served"
        served.mkdir()
        (served / "saved_model.pb").write_bytes(b"")
        for path, message in (
            (self.folder, "no backbone.keras there.*pixpro-export"),
            (half, "half.keras: no complete Keras file"),
            (weights, "does not name its network"),
            (broken, "broken.weights.h5: no complete weights file"),
            (text, "'.txt' are not read"),
            (onnx, "made for serving"),
            (served, "is a SavedModel"),
            ("resnet19", "resnet19: no such file or folder, and not one of"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                pixpro_keras.load_backbone(path)


if __name__ == "__main__":
    tf.test.main()
