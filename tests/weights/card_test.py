import pathlib

import keras
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.utils.checksums import read_manifest
from pixpro_keras.weights import export_backbone, write_card
from tests.helpers.tables import unpadded


class CardTest(tf.test.TestCase, parameterized.TestCase):
    def test_tells_files_of_other_outputs_from_each_other(self):
        folder, name = pathlib.Path(self.create_tempdir().full_path), "resnet6_v1_5"
        backbone = backbones.build(name)
        for features in ("c5", "pooled"):
            export_backbone(backbone, name, folder, ["saved_model"], features)
        text = write_card(folder, name, title="A title", facts={}).read_text()
        for line in (
            "- `saved_model`: `network = tf.saved_model.load('saved_model'); network.serve(images)`",
            "- `saved_model_pooled`: `network = tf.saved_model.load('saved_model_pooled'); "
            "network.serve(images)  # one vector per image`",
        ):
            self.assertIn(f"{line}\n", text)

    def card(self, name, formats, **arguments):
        folder = pathlib.Path(self.create_tempdir().full_path)
        export_backbone(backbones.build(name), name, folder, formats)
        path = write_card(folder, name, title="A title", facts={"Data": "a|b"}, **arguments)
        return unpadded(path.read_text()), read_manifest(folder / "SHA256SUMS")

    def test_says_what_the_weights_are(self):
        text, sums = self.card(
            "mobilenetv3small",
            None,
            metrics={"loss": -2.0 / 3, "step": 8},
            flags=["--epochs=3"],
            license_name="apache-2.0",
        )
        head, body = text.removeprefix("---\n").split("\n---\n", 1)
        self.assertContainsSubset(
            {"library_name: keras", "license: apache-2.0", "tags:", "- keras"}, head.splitlines()
        )
        for line in (
            "# A title",
            "| Data | a\\|b |",
            "| License of the weights | apache-2.0 |",
            "| loss | -0.666667 |",
            "| step | 8 |",
            "| Output | C5: the last feature map, stride 32 |",
            "--epochs=3",
        ):
            self.assertIn(line, body.splitlines())
        self.assertIn("keras.applications.mobilenet_v3.preprocess_input", body)
        self.assertLen(sums, 2)
        for file, checksum in sums.items():
            self.assertIn(f"| `{file}` | `{checksum}` |", body)
            self.assertIn(f"- `{file}`: `keras.", body)

    @parameterized.parameters(("same", ", stride 4"), ("valid", ""))
    def test_says_the_stride_of_the_network_of_a_file(self, padding, stride):
        inputs = x = keras.Input((None, None, 3))
        for _ in range(2):
            x = keras.layers.Conv2D(4, 3, 2, padding)(x)
        file = f"{self.create_tempdir().full_path}/mine.keras"
        keras.Model(inputs, x).save(file)
        text, _ = self.card(file, None)
        self.assertIn(f"| Output | C5: the last feature map{stride} |", text.splitlines())

    def test_names_only_files_that_are_there(self):
        text, _ = self.card("resnet18_v1_5", ["keras"])
        self.assertIn("license: unknown", text)
        self.assertIn("RGB in 0..1, then (x - mean) / std with mean (0.485, 0.456, 0.406)", text)
        self.assertIn("- `backbone.keras`: `keras.saving.load_model('backbone.keras')`", text)
        for absent in ("onnx", "tflite", "metrics", "## Flags"):
            self.assertNotIn(absent, text)


if __name__ == "__main__":
    tf.test.main()
