import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from pixpro_keras.data.sources import open_source
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

    def test_unknown_names(self):
        with self.assertRaisesRegex(ValueError, "'no_such_set'"):
            self.open("tfds:no_such_set")
        with self.assertRaisesRegex(ValueError, "'tiny_photos' has no split 'test', but"):
            self.open("tfds:tiny_photos:test")
        with self.assertRaisesRegex(ValueError, "'tiny_photos/none'"):
            self.open("tfds:tiny_photos/none")


if __name__ == "__main__":
    tf.test.main()
