import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from pixpro_keras.data.labels import read_labels
from pixpro_keras.data.sources import open_source
from pixpro_keras.data.sources.tfds import from_builder
from tests.helpers.examples import read_example
from tests.helpers.jobs import write_photos


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Twelve photographs with masks that no source needs."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "emu"]),
            "mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(), "validation": self._generate_examples()}

    def _generate_examples(self):
        folder = write_photos(pathlib.Path(self.data_dir).parent / "photos", count=12)
        for number in range(12):
            file = folder / f"{number}.jpg"
            mask = np.full((4, 4, 1), number, np.uint8)
            yield number, {"image": str(file), "label": number % 3, "mask": mask}


class TinyLabels(tfds.core.GeneratorBasedBuilder):
    """Black images with labels of any kind."""

    VERSION = tfds.core.Version("1.0.0")
    kind = "text"

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": {
                "text": tfds.features.Text(),
                "several": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=4)),
                "number": tfds.features.Scalar(np.float32),
                "parts": {"a": tfds.features.ClassLabel(num_classes=4)},
                "class": tfds.features.Scalar(np.int64),
                "images": tfds.features.ClassLabel(num_classes=4),
            }[self.kind],
        }
        if self.kind == "images":
            features["image"] = tfds.features.Sequence(features["image"])
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        labels = {"text": "Bob", "several": [1, 3], "number": 0.7, "parts": {"a": 1}}
        image = np.zeros((8, 8, 3), np.uint8)
        image = [image] if self.kind == "images" else image
        yield 0, {"image": image, "label": labels.get(self.kind, 2)}


class TFDSTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.data_dir = self.create_tempdir().full_path

    def open(self, spec):
        return open_source(spec, data_dir=self.data_dir)

    def expected(self, split):
        decoders = {"image": tfds.decode.SkipDecoding()}
        builder = TinyPhotos(data_dir=self.data_dir)
        data = builder.as_dataset(split, decoders=decoders)
        return [(item["image"].numpy(), int(item["label"])) for item in data]

    @parameterized.parameters(
        ("", "train"), (":validation",) * 2, (":train[:25%]",) * 2, (":train[3:-2]",) * 2
    )
    def test_keeps_the_original_bytes(self, suffix, split):
        source = self.open(f"tfds:tiny_photos{suffix}")
        split = split.removeprefix(":")
        found = [read_example(source, index) for index in range(source.num_examples)]
        self.assertEqual(found, self.expected(split))
        self.assertEqual(source.class_names, ("cat", "dog", "emu"))
        self.assertTrue(found[0][0].startswith(b"\xff\xd8"))

    def open_tiny(self, kind):
        with mock.patch.object(TinyLabels, "kind", kind):
            builder = TinyLabels(data_dir=self.data_dir)
            builder.download_and_prepare()
        return from_builder("tfds:tiny_labels", builder, "train")

    @parameterized.parameters("text", "several", "number", "parts")
    def test_labels_that_are_no_classes_are_not_used(self, kind):
        with self.assertLogs("absl", "WARNING") as logs:
            source = self.open_tiny(kind)
        self.assertIn("the labels are not used, since they are no class", logs.output[0])
        self.assertEqual(read_labels(source).tolist(), [-1])
        self.assertIsNone(source.class_names)

    def test_labels_without_names_are_used(self):
        self.assertEqual(read_labels(self.open_tiny("class")).tolist(), [2])

    def test_several_images_in_an_example_are_refused(self):
        with self.assertRaisesRegex(
            ValueError, "'tiny_labels': `image` must be one image, not Seq"
        ):
            self.open_tiny("images")

    def test_unknown_names(self):
        with self.assertRaisesRegex(ValueError, "'no_such_set'"):
            self.open("tfds:no_such_set")
        with self.assertRaisesRegex(ValueError, "'tiny_photos' has no split 'test', but"):
            self.open("tfds:tiny_photos:test")
        with self.assertRaisesRegex(ValueError, "'tiny_photos/none'"):
            self.open("tfds:tiny_photos/none")


if __name__ == "__main__":
    tf.test.main()
