import os
import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.sources import RecordFiles, open_source
from pixpro_keras.data.sources.tfrecord import CLASS_NAMES
from tests.helpers.examples import read_example

RECORDS = ([b"one", b"", b"three" * 100], [b"four"], [b"five", b"six"])


class RecordFilesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.files = []
        for number, records in enumerate(RECORDS):
            self.files.append(str(self.folder / f"{number}.tfrecord"))
            with tf.io.TFRecordWriter(self.files[-1]) as writer:
                for record in records:
                    writer.write(record)

    def test_reads_every_record_in_any_order(self):
        records = RecordFiles(self.files)
        expected = [record for shard in RECORDS for record in shard]
        self.assertLen(records, len(expected))
        for index in reversed(range(len(expected))):
            self.assertEqual(records.read(index), expected[index])
        self.assertEqual(records.describe(2), f"{self.files[0]} record 2")
        self.assertEqual(records.describe(5), f"{self.files[2]} record 1")

    def test_spans(self):
        records = RecordFiles(self.files, [(1, 1), (0, 0), (1, 1)])
        self.assertEqual([records.read(index) for index in range(len(records))], [b"", b"six"])
        self.assertEqual(records.describe(0), f"{self.files[0]} record 1")
        self.assertEqual(records.describe(1), f"{self.files[2]} record 1")

    @parameterized.parameters(8, 20, -1)
    def test_a_cut_file_is_named(self, size):
        whole = pathlib.Path(self.files[0]).read_bytes()
        pathlib.Path(self.files[0]).write_bytes(whole[:size])
        with self.assertRaisesRegex(ValueError, "0.tfrecord is no TFRecord file, or is cut off"):
            RecordFiles(self.files)

    @parameterized.parameters(8, 11)
    def test_a_damaged_header_is_named(self, place):
        damaged = bytearray(pathlib.Path(self.files[0]).read_bytes())
        damaged[place] ^= 1  # in the checksum of the first length
        pathlib.Path(self.files[0]).write_bytes(damaged)
        with self.assertRaisesRegex(ValueError, "0.tfrecord.*damaged at record 0"):
            RecordFiles(self.files)

    def test_another_kind_of_file_is_named(self):
        other = self.folder / "photo.jpg"
        other.write_bytes(bytes(range(256)) * 4)
        with self.assertRaisesRegex(ValueError, "photo.jpg is no TFRecord file"):
            RecordFiles([str(other)])


class OpenTFRecordTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def write(self, *features, name="a.tfrecord"):
        with tf.io.TFRecordWriter(str(self.folder / name)) as writer:
            for feature in features:
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
        return open_source(f"tfrecord:{self.folder}/*.tfrecord")

    def test_reads_bytes_and_labels(self):
        image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\xff\xd8 bytes"]))
        label = tf.train.Feature(int64_list=tf.train.Int64List(value=[7]))
        source = self.write(
            {"image/encoded": image, "image/class/label": label}, {"image/encoded": image}
        )
        self.assertEqual(read_example(source, 0), (b"\xff\xd8 bytes", 7))
        self.assertEqual(read_example(source, 1), (b"\xff\xd8 bytes", -1))
        self.assertEndsWith(source.describe(1), "a.tfrecord record 1")

    def test_names_of_classes(self):
        image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b""]))
        label = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
        record = {"image/encoded": image, "image/class/label": label}

        def named(*names):
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=names))
            return record | {CLASS_NAMES: feature}

        self.assertIsNone(self.write(record).class_names)
        source = self.write(named(b"cat", b"\xe9"), record)
        self.assertEqual(source.class_names, ("cat", os.fsdecode(b"\xe9")))
        source = self.write(named(b"cat", b"\xe9"), name="b.tfrecord")
        self.assertEqual([read_example(source, index)[1] for index in range(3)], [1, 1, 1])
        for other in (named(b"dog", b"cat"), record):
            with self.assertLogs("absl", "WARNING") as logs:
                source = self.write(other, name="b.tfrecord")
            self.assertIn("its files have different classes", logs.output[0])
            self.assertIsNone(source.class_names)
            self.assertEqual(read_example(source, 0)[1], -1)

    def test_no_record(self):
        with self.assertRaisesRegex(ValueError, "hold no record"):
            self.write()

    def test_glob_without_match(self):
        with self.assertRaisesRegex(ValueError, r"no file matches /no/\*\.tfrecord"):
            open_source("tfrecord:/no/*.tfrecord")


if __name__ == "__main__":
    tf.test.main()
