import os
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from pixpro_keras.data import sources
from tests.helpers.jobs import write_photos


def read(source, index):
    example = source.read(tf.constant(index, tf.int64))
    return example["image"].numpy(), int(example["label"])


class FolderTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def write(self, *names):
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())

    def open(self):
        return sources.open_source(f"folder:{self.folder}")

    def test_finds_images_at_any_depth_in_byte_order(self):
        names = ["b.jpg", "a/z.PNG", "a/b/c.webp", "a-b/x.jpeg", "B.bmp", "é/ü ö.Jpg", "a.jpg"]
        self.write(*names, "a/notes.txt", "jpg", "a/b/c.webp.txt")
        source = self.open()
        expected = sorted(names, key=os.fsencode)
        self.assertEqual(source.num_examples, len(names))
        for index, name in enumerate(expected):
            self.assertEqual(read(source, index), (name.encode(), -1))
            self.assertEqual(source.describe(index), str(self.folder / name))
        self.assertIsNone(source.class_names)

    def test_class_folders_are_labels(self):
        # Sorted as names, `a` comes before `a-b`; the paths below them sort the other way.
        self.write("dog/2.jpg", "a/1.jpg", "a-b/7.jpg", "dog/1.jpg")
        source = self.open()
        self.assertEqual(source.class_names, ("a", "a-b", "dog"))
        labels = {read(source, index) for index in range(4)}
        self.assertEqual(
            labels, {(b"a/1.jpg", 0), (b"a-b/7.jpg", 1), (b"dog/1.jpg", 2), (b"dog/2.jpg", 2)}
        )

    @parameterized.parameters("loose.jpg", "a/b/deep.jpg")
    def test_any_other_layout_has_no_labels(self, name):
        self.write("a/1.jpg", "b/2.jpg", name)
        source = self.open()
        self.assertIsNone(source.class_names)
        self.assertEqual([read(source, index)[1] for index in range(3)], [-1] * 3)

    def test_follows_links_but_not_in_circles(self):
        self.write("a/1.jpg")
        (self.folder / "a" / "up").symlink_to(self.folder)
        other = pathlib.Path(self.create_tempdir().full_path)
        (other / "2.jpg").write_bytes(b"elsewhere")
        (self.folder / "b").symlink_to(other)
        source = self.open()
        self.assertEqual(source.num_examples, 2)
        self.assertEqual(read(source, 1)[0], b"elsewhere")

    def test_reads_inside_a_map(self):
        self.write(*(f"{number:03}.jpg" for number in range(50)))
        source = self.open()
        data = tf.data.Dataset.range(50).map(source.read, num_parallel_calls=4)
        self.assertEqual(
            [example["image"].numpy().decode() for example in data],
            [f"{number:03}.jpg" for number in range(50)],
        )

    def test_an_empty_folder_says_what_was_looked_for(self):
        with self.assertRaisesRegex(ValueError, r"holds no image \(\.jpg, \.jpeg, \.png"):
            self.open()


class BadSpecTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("", "imagenet", "folder", "folder:", "tfds:", "zip:x", "tfrecord:")
    def test_unknown(self, spec):
        with self.assertRaisesRegex(ValueError, f"Received: '{spec}'"):
            sources.open_source(spec)

    def test_missing_folder(self):
        with self.assertRaisesRegex(ValueError, "/no/such/place is not a folder"):
            sources.open_source("folder:/no/such/place")

    def test_glob_without_match(self):
        with self.assertRaisesRegex(ValueError, r"no file matches /no/\*\.tfrecord"):
            sources.open_source("tfrecord:/no/*.tfrecord")


class TFRecordTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def write(self, *features):
        with tf.io.TFRecordWriter(str(self.folder / "a.tfrecord")) as writer:
            for feature in features:
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
        return sources.open_source(f"tfrecord:{self.folder}/*.tfrecord")

    def test_reads_bytes_and_labels(self):
        image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\xff\xd8 bytes"]))
        label = tf.train.Feature(int64_list=tf.train.Int64List(value=[7]))
        source = self.write(
            {"image/encoded": image, "image/class/label": label}, {"image/encoded": image}
        )
        self.assertEqual(read(source, 0), (b"\xff\xd8 bytes", 7))
        self.assertEqual(read(source, 1), (b"\xff\xd8 bytes", -1))
        self.assertEndsWith(source.describe(1), "a.tfrecord record 1")

    def test_no_record(self):
        with self.assertRaisesRegex(ValueError, "hold no record"):
            self.write()


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
        return sources.open_source(spec, data_dir=self.data_dir)

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
        found = [read(source, index) for index in range(source.num_examples)]
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
