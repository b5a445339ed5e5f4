import os
import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.sources import RecordFiles, open_source
from pixpro_keras.data.sources.tfrecord import CLASS_NAMES, escape_pattern
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

    def test_the_fingerprint_is_of_the_records_not_of_their_place(self):
        def write(name, *records):
            file = f"{self.create_tempdir().full_path}/{name}.tfrecord"
            with tf.io.TFRecordWriter(file) as writer:
                for record in records:
                    writer.write(record)
            return RecordFiles([file]).fingerprint()

        first = write("a", b"12", b"345")
        self.assertEqual(write("a", b"12", b"345"), first)
        self.assertNotIn(first, [write("b", b"12", b"345"), write("a", b"123", b"45")])

    def test_spans(self):
        records = RecordFiles(self.files, [(1, 1), (0, 0), (1, 1)])
        self.assertEqual([records.read(index) for index in range(len(records))], [b"", b"six"])
        self.assertEqual(records.describe(0), f"{self.files[0]} record 1")
        self.assertEqual(records.describe(1), f"{self.files[2]} record 1")

    @parameterized.parameters(8, 20, -1)
    def test_a_cut_file_is_named(self, size):
        whole = pathlib.Path(self.files[0]).read_bytes()
        pathlib.Path(self.files[0]).write_bytes(whole[:size])
        with self.assertRaisesRegex(
            ValueError, "0.tfrecord is not a TFRecord file, or is truncated"
        ):
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
        with self.assertRaisesRegex(ValueError, "photo.jpg is not a TFRecord file"):
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

    def test_records_without_an_image_are_refused_by_what_they_have(self):
        content = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b""]))
        with self.assertRaisesRegex(
            ValueError,
            "a.tfrecord record 0 has no image/encoded, the encoded image, but jpeg, name$",
        ):
            self.write({"name": content, "jpeg": content})
        self.assertEqual(self.write({"x": content}, {"image/encoded": content}).num_examples, 2)

    def test_labels_that_are_no_class_numbers_are_not_used(self):
        image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"image"]))
        for label in (
            tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"cat"])),
            tf.train.Feature(float_list=tf.train.FloatList(value=[0.7])),
            tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2])),
        ):
            with self.assertLogs("absl", "WARNING") as logs:
                source = self.write({"image/encoded": image, "image/class/label": label})
            self.assertIn("the labels are not used", logs.output[0])
            self.assertEqual(read_example(source, 0), (b"image", -1))
        label = tf.train.Feature(int64_list=tf.train.Int64List(value=[2**33 + 1]))
        source = self.write({"image/encoded": image, "image/class/label": label})
        self.assertEqual(read_example(source, 0), (b"image", -1))

    def test_no_record(self):
        with self.assertRaisesRegex(ValueError, "hold no record"):
            self.write()

    def test_glob_without_match(self):
        with self.assertRaisesRegex(ValueError, r"no file matches /no/\*\.tfrecord"):
            open_source("tfrecord:/no/*.tfrecord")


class ShardsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def write(self, *names):
        for name in names:
            with tf.io.TFRecordWriter(str(self.folder / name)) as writer:
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b""]))
                features = tf.train.Features(feature={"image/encoded": image})
                writer.write(tf.train.Example(features=features).SerializeToString())

    def count(self, pattern):
        return open_source(f"tfrecord:{self.folder}/{pattern}").num_examples

    def test_two_packings_are_refused(self):
        self.write("a-0-of-1.tfrecord", "a-0-of-2.tfrecord", "a-1-of-2.tfrecord", "a-b-0-of-1")
        with self.assertRaisesRegex(
            ValueError, r"/a-\*-of-1\.tfrecord and \S+/a-\*-of-2\.tfrecord match it"
        ):
            self.count("a*")
        for pattern, expected in (("a-*-of-2.tfrecord", 2), ("a-*of-1*", 2), ("a-b*", 1)):
            self.assertEqual(self.count(pattern), expected)

    @parameterized.parameters("", "x[1]-2-of-3/", "./")
    def test_a_part_of_a_packing_is_refused_unless_it_was_chosen(self, folder):
        (self.folder / folder.strip("/")).mkdir(exist_ok=True)
        place = folder.replace("[", "\\[").replace("]", "\\]")
        self.write(f"{folder}a-00000-of-00003", f"{folder}a-00002-of-00003")
        with self.assertRaisesRegex(ValueError, r"of the 3 files \S+-of-00003 only 2 are there"):
            self.count(f"{place}a-*")
        self.write(f"{folder}a-00001-of-00003")
        self.assertEqual(self.count(f"{place}a-*"), 3)
        self.assertEqual(self.count(f"{place}a-0000[01]*"), 2)

    def test_files_of_an_interrupted_packing(self):
        self.write("a-0-of-1.tfrecord.incomplete")
        with self.assertRaisesRegex(ValueError, r"no file matches .* but \S+\.incomplete"):
            self.count("a*")
        self.write("a-0-of-1.tfrecord")
        self.assertEqual(self.count("a*"), 1)


class PatternTest(tf.test.TestCase):
    def test_any_name_is_matched(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        for name in ("a[1]", "b{2}", "c*d", "e?f", "g h'i", "j(k)", "l+m"):
            file = root / name / "set[x]-00000-of-00001.tfrecord"
            file.parent.mkdir()
            file.touch()
            pattern = escape_pattern(str(root / name / "set[x]")) + "-*.tfrecord"
            self.assertEqual(tf.io.gfile.glob(pattern), [str(file)])


if __name__ == "__main__":
    tf.test.main()
