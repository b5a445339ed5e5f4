"""Exported files open in plain Keras and give the trained backbone's features, bit for bit."""

import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.utils.checksums import read_manifest
from pixpro_keras.weights import export_backbone
from tests.helpers.random_weights import photo, randomize

# Builds each network by the words that `export_backbone` gave, as a user does who has Keras only.
_PLAIN_KERAS = """
import json, sys
import keras
import numpy as np

results = {}
for key, (expression, module) in json.load(open(sys.argv[1])).items():
    network = eval(expression)
    images = np.load(sys.argv[2])[key.partition("|")[0]]
    if module:
        images = getattr(keras.applications, module).preprocess_input(images)
    results[key] = network(images, training=False)
    assert {layer.dtype_policy.name for layer in network.layers} == {"float32"}, key
assert "pixpro_keras" not in sys.modules
np.savez(sys.argv[3], **results)
"""

# Network of keras.applications -> the module of its preprocessing. Chosen for what is special in them:
# nested models and own layers, weights outside of batch norm that do not train, a module that lacks
# the constructor, unnamed layers.
_OTHERS = {
    "convnexttiny": "convnext",
    "efficientnetb0": "efficientnet",
    "mobilenetv3small": "mobilenet_v3",
    "xception": "xception",
}
_USUAL = {"resnet50": "resnet50", "mobilenetv2": "mobilenet_v2", "resnet18_v1_5": None}


@functools.cache
def features_in_plain_keras():
    """Exports randomized backbones and computes their features in one process of plain Keras.

    Returns:
        Features of each exported file, by `name|file`; those of each backbone itself, by name.
    """
    jobs, images, expected = {}, {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for name, module in (_USUAL | _OTHERS).items():
            backbone = randomize(backbones.build(name))
            size = backbones.min_image_size(name)
            images[name] = photo(size + 1, size + 30)
            preprocessed = backbones.preprocess_input(name)(images[name])
            if module is None:
                images[name] = preprocessed.numpy()
            expected[name] = backbone(preprocessed, training=False).numpy()
            for path, how_to_load in export_backbone(backbone, name, folder / name).items():
                jobs[f"{name}|{path.name}"] = how_to_load, module
        paths = [folder / file for file in ("jobs.json", "images.npz", "features.npz")]
        paths[0].write_text(json.dumps(jobs))
        np.savez(paths[1], **images)
        subprocess.run([sys.executable, "-c", _PLAIN_KERAS, *paths], check=True, cwd=folder)
        with np.load(paths[2]) as features:
            assert set(features.files) == set(jobs)
            return dict(features), expected


class ExportTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def check_in_plain_keras(self, modules):
        """Compares features of randomized backbones with those of the exported files."""
        features, expected = features_in_plain_keras()
        files = {key for key in features if key.partition("|")[0] in modules}
        for key in files:
            of_backbone = expected[key.partition("|")[0]]
            self.assertGreater(of_backbone.std(), 1e-2, key)
            np.testing.assert_array_equal(features[key], of_backbone, err_msg=key)
        return files

    @pytest.mark.slow
    def test_features_in_plain_keras(self):
        self.assertEqual(
            self.check_in_plain_keras(_USUAL),
            {
                "resnet50|backbone.weights.h5",
                "resnet50|backbone.keras",
                "mobilenetv2|backbone.weights.h5",
                "mobilenetv2|backbone.keras",
                "resnet18_v1_5|backbone.keras",
            },
        )

    @pytest.mark.slow
    def test_features_of_unusual_networks(self):
        self.assertLen(self.check_in_plain_keras(_OTHERS), 2 * len(_OTHERS))

    @pytest.mark.slow
    def test_mixed_precision_replicas_and_dilation_leave_no_trace(self):
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        keras.config.set_dtype_policy("mixed_float16")
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            backbone = backbones.build("resnet18_v1_5", output_stride=16)
        randomize(backbone)
        (path,) = export_backbone(backbone, "resnet18_v1_5", self.folder)
        self.assertEqual(keras.config.dtype_policy().name, "mixed_float16")

        network = keras.saving.load_model(path)
        for ours, plain in zip(backbone.weights, network.weights, strict=True):
            self.assertEqual(plain.dtype, "float32")
            np.testing.assert_array_equal(plain.numpy(), keras.ops.convert_to_numpy(ours))
        images = photo(64, 64) / 128 - 1
        features = network(images, training=False)
        self.assertEqual(features.dtype, tf.float32)
        self.assertEqual(features.shape, (1, 2, 2, 512))
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
        classes = list(_classes(config))
        self.assertGreater(len(classes), 60)
        for settings in classes:
            self.assertStartsWith(settings["module"] or "keras", "keras")
            self.assertIn(settings["registered_name"], (None, "Functional"))
            self.assertFalse(settings["config"].get("synchronized", False))

    def test_v1_5_has_no_keras_applications_weights(self):
        backbone = backbones.build("resnet10_v1_5")
        folder = self.folder / "export"
        for name, reason in (
            ("resnet50_v1_5", "strides are in the 3x3.*wrong features. Use the format keras"),
            ("resnet10_v1_5", "keras.applications has no such network"),
        ):
            with self.assertRaisesRegex(ValueError, f"{name}.*{reason}"):
                export_backbone(backbone, name, folder, ["keras", "keras_applications"])
        self.assertFalse(folder.exists())

    def test_unknown_format(self):
        backbone = backbones.build("resnet10_v1_5")
        with self.assertRaisesRegex(
            ValueError, "keras_applications, keras, .*litert. Received: caffe"
        ):
            export_backbone(backbone, "resnet10_v1_5", self.folder, ["caffe"])

    @pytest.mark.slow
    def test_only_what_is_asked_for(self):
        backbone = backbones.build("mobilenet")
        for name, file in (
            ("keras_applications", "backbone.weights.h5"),
            ("keras", "backbone.keras"),
            ("saved_model", "saved_model"),
        ):
            (path,) = export_backbone(backbone, "mobilenet", self.folder / name, [name])
            self.assertEqual(path, self.folder / name / file)
            self.assertEqual({p.name for p in path.parent.iterdir()}, {file, "SHA256SUMS"})

    @parameterized.parameters(
        ("resnet50_v1_5", "resnet50", r"conv1_bn/gamma \(64,\) in the place of conv1_conv/bias"),
        ("resnet18_v1_5", "resnet34_v1_5", r"in the place of conv2_block3_1_conv/kernel"),
        ("resnet34_v1_5", "resnet18_v1_5", r"conv2_block3_1_conv/kernel .* in the place of"),
    )
    @pytest.mark.slow
    def test_backbone_of_another_name(self, built, name, message):
        with self.assertRaisesRegex(ValueError, f"`backbone` must be {name}.*{message}"):
            export_backbone(backbones.build(built), name, self.folder / "export")
        self.assertFalse((self.folder / "export").exists())

    def test_backbone_with_more_layers(self):
        backbone = backbones.build("resnet10_v1_5")
        longer = keras.Model(
            backbone.input, keras.layers.Conv2D(3, 1, name="head")(backbone.output)
        )
        with self.assertRaisesRegex(ValueError, "head/kernel .* in the place of no weight"):
            export_backbone(longer, "resnet10_v1_5", self.folder)

    @parameterized.parameters("save", "replace")
    def test_failure_leaves_the_old_file(self, where):
        backbone = backbones.build("resnet10_v1_5")
        (path,) = export_backbone(backbone, "resnet10_v1_5", self.folder)
        before = path.read_bytes()

        def half(model, target, **kwargs):
            pathlib.Path(target).write_bytes(b"half of it")
            raise OSError("no space left on device")

        broken = {
            "save": mock.patch.object(keras.Model, "save", half),
            "replace": mock.patch("os.replace", side_effect=OSError("no space left on device")),
        }
        randomize(backbone)
        with broken[where], self.assertRaisesRegex(OSError, "no space left"):
            export_backbone(backbone, "resnet10_v1_5", self.folder)
        self.assertEqual(path.read_bytes(), before)
        self.assertEqual(sorted(self.folder.iterdir()), [self.folder / "SHA256SUMS", path])
        pixpro_keras.load_backbone(path)  # its checksum is still that of the old file

        export_backbone(backbone, "resnet10_v1_5", self.folder)
        kernel = keras.saving.load_model(path).get_layer("conv1_conv").kernel
        np.testing.assert_array_equal(kernel, backbone.get_layer("conv1_conv").kernel)

    def test_files_of_other_weights_are_not_listed(self):
        backbone = backbones.build("mobilenetv3small")
        files = {"backbone.keras", "backbone.weights.h5"}

        def listed_after(*formats):
            export_backbone(backbone, "mobilenetv3small", self.folder, formats)
            return set(read_manifest(self.folder / "SHA256SUMS"))

        listed_after("keras")
        self.assertEqual(listed_after("keras_applications"), files)
        randomize(backbone)
        self.assertEqual(listed_after("keras"), {"backbone.keras"})
        self.assertTrue((self.folder / "backbone.weights.h5").exists())
        self.assertEqual(listed_after("keras_applications"), files)

    def test_folder_that_cannot_be(self):
        (self.folder / "taken").write_text("a file")
        backbone = backbones.build("resnet10_v1_5")
        with self.assertRaisesRegex(OSError, "taken"):
            export_backbone(backbone, "resnet10_v1_5", self.folder / "taken")


def _classes(config):
    """All serialized objects in a model's configuration."""
    if isinstance(config, dict):
        if "class_name" in config and "registered_name" in config:
            yield config
        config = config.values()
    if not isinstance(config, str) and hasattr(config, "__iter__"):
        for value in config:
            yield from _classes(value)


if __name__ == "__main__":
    tf.test.main()
