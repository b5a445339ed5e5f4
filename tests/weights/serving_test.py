"""Served backbones in other programs, for any batch and image size."""

import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.backbones import resnet
from pixpro_keras.weights import export_backbone
from tests.helpers.random_weights import photo, randomize
from tests.helpers.tiny_networks import RESNET6, RESNET10


def run_saved_model(path, images):
    network = tf.saved_model.load(str(path))  # kept, else its variables are gone
    return network.serve(images)


def run_onnx(path, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    values = session.run(None, {"images": images})
    return dict(zip(names, values, strict=True)) if len(names) > 1 else values[0]


def run_litert(path, images):
    interpreter = tf.lite.Interpreter(str(path))
    (asked,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(asked["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(asked["index"], images)
    interpreter.invoke()
    values = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    if len(values) == 1:
        return values[0]
    by_size = sorted(values, key=lambda value: -value.shape[1])
    return dict(zip(("c2", "c3", "c4", "c5"), by_size, strict=True))


GROUPS = "resnext14_4x8d"
RUNNERS = {"saved_model": run_saved_model, "onnx": run_onnx, "litert": run_litert}


@pytest.mark.slow
class ServingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("saved_model", "c2-c5", RESNET10),
        ("saved_model", "pooled", RESNET6),
        ("onnx", "c5", GROUPS),
        ("onnx", "c2-c5", RESNET10),
        ("litert", "c2-c5", RESNET10),
        ("litert", "pooled", RESNET6),
    )
    # One block a stage and few groups: converting ResNeXt-50 takes 8 GB.
    @mock.patch.dict(
        resnet.ARCHITECTURES,
        {GROUPS: resnet.Architecture((1, 1, 1, 1), groups=4, group_width=8)},
    )
    def test_outputs(self, chosen, features, network_name):
        if chosen == "onnx":
            pytest.importorskip("tf2onnx", reason="needs pip install 'pixpro-keras[onnx]'")
        backbone = randomize(backbones.build(network_name))
        folder = pathlib.Path(self.create_tempdir().full_path)
        # A folder is replaced as a file is.
        for _ in range(2 if (chosen, features) == ("saved_model", "pooled") else 1):
            (path,) = export_backbone(backbone, network_name, folder, [chosen], features)
        self.assertEqual(sorted(folder.iterdir()), [folder / "SHA256SUMS", path])
        network = backbones.feature_network(backbone, features)
        for shape in ((65, 97, 2), (96, 64, 1)):
            images = (photo(*shape) / 64 - 2).astype("float32")
            expected = network(images, training=False)
            result = RUNNERS[chosen](path, images)
            if features != "c2-c5":
                expected, result = {"": expected}, {"": result}
            self.assertEqual(set(result), set(expected))
            for name, value in expected.items():
                largest = np.abs(value).max()
                self.assertGreater(np.std(value), 1e-2)
                self.assertAllClose(result[name], value, atol=1e-5 * largest, rtol=0)

    @parameterized.parameters("saved_model", "onnx", "litert")
    def test_networks_that_scale_their_images(self, chosen):
        if chosen == "onnx":
            pytest.importorskip("tf2onnx", reason="needs pip install 'pixpro-keras[onnx]'")
        images = photo(33, 40)
        layer = keras.layers.Normalization()
        layer.adapt(images)
        inputs = keras.Input((None, None, 3))
        x = keras.applications.resnet50.preprocess_input(inputs) / 255 + layer(inputs)
        network = keras.Model(inputs, keras.layers.Conv2D(8, 3, 2)(x), name="scaling")
        folder = pathlib.Path(self.create_tempdir().full_path)
        name = str(folder / "scaling.keras")
        network.save(name)
        (path,) = export_backbone(network, name, folder, [chosen])
        self.assertAllClose(RUNNERS[chosen](path, images), network(images), rtol=1e-4, atol=1e-4)

    def test_other_features_are_for_serving_only(self):
        backbone = backbones.build("resnet10_v1_5")
        folder = pathlib.Path(self.create_tempdir().full_path) / "x"
        with self.assertRaisesRegex(ValueError, "the format keras holds the backbone up to c5"):
            export_backbone(backbone, "resnet10_v1_5", folder, ["keras"], "pooled")
        self.assertFalse(folder.exists())


if __name__ == "__main__":
    tf.test.main()
