import concurrent.futures
import contextlib
import io
import os
import pathlib
import re
import time
from unittest import mock

import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli import make_tfrecords
from pixpro_keras.cli.make_tfrecords import RecordOptions, run
from pixpro_keras.cli.options import labeled_options
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.data import sources
from pixpro_keras.data.broken_images import BrokenImagesError
from tests.helpers.jobs import run_job, write_photos


class ClassNamesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        for part, names in (("train", ("cat", "dog", "eel")), ("val", ("cat", "eel"))):
            for name in names:
                write_photos(self.folder / part / name, count=2)
            self.pack(part)

    def pack(self, part):
        pack(self.folder / part, self.folder / "records" / part)

    def parts(self, train, test):
        options = labeled_options.LabeledOptions(train_dataset=train, test_dataset=test)
        return labeled_options.open_parts(options)

    def records(self, part):
        return f"tfrecord:{self.folder}/records/{part}-*.tfrecord"

    def test_parts_that_are_packed_separately_have_the_same_numbers(self):
        for train in (self.records("train"), f"folder:{self.folder / 'train'}"):
            with self.assertLogs("absl", "WARNING") as logs:
                parts = self.parts(train, self.records("val"))
            self.assertIn("no image of these classes: dog", " ".join(logs.output))
            self.assertEqual(parts.test.class_names, ("cat", "dog", "eel"))
            self.assertEqual(sorted(parts.test_labels.tolist()), [0, 0, 2, 2])
        with self.assertRaisesRegex(FlagError, "first has none, only the second has dog"):
            self.parts(self.records("val"), self.records("train"))

    def test_each_record_has_the_name_of_its_class(self):
        file = next((self.folder / "records").glob("val-00001*"))
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            (text,) = feature["image/class/text"].bytes_list.value
            self.assertEqual(text, feature["image/filename"].bytes_list.value[0].split(b"/")[0])


class OutputTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(self.folder / "in", count=4)

    @parameterized.parameters("/", "/.", "/x/..")
    def test_a_folder_is_no_prefix(self, end):
        with self.assertRaisesRegex(FlagError, rf"^--output=\S+{end}: must end .* as \S+/in$"):
            pack(self.folder / "in", f"{self.folder}{end}")

    def test_files_of_another_packing_are_in_the_way(self):
        pack(self.folder / "in", self.folder / "out" / "set")
        pack(self.folder / "in", self.folder / "out" / "set-b", num_shards=3)
        pack(self.folder / "in", self.folder / "out" / "set")  # overwrites the same files
        with self.assertRaisesRegex(
            FlagError,
            r"^--num_shards=3: \S+/set-00000-of-00002\.tfrecord is of a packing in 2 files",
        ):
            pack(self.folder / "in", self.folder / "out" / "set", num_shards=3)
        self.assertLen(list((self.folder / "out").iterdir()), 5)

    def test_an_interrupted_packing_leaves_no_old_files_among_the_new(self):
        output = self.folder / "out" / "set"
        pack(self.folder / "in", output)
        written = make_tfrecords.write_shard

        def write(path, *arguments):
            if "-00001-" in path:
                raise KeyboardInterrupt
            return written(path, *arguments)

        with (
            mock.patch.object(make_tfrecords, "write_shard", write),
            self.assertRaises(KeyboardInterrupt),
        ):
            pack(self.folder / "in", output)
        with self.assertRaisesRegex(ValueError, "interrupted"):
            sources.open_source(f"tfrecord:{output}-*")

    @parameterized.parameters("missing", "no image", "cut off")
    def test_a_file_that_cannot_be_decoded_is_left_out_and_named(self, kind):
        folder = self.folder / "labeled"
        for name in ("cat", "dog"):
            write_photos(folder / name, count=2)
        broken = folder / "cat" / "9.jpg"
        if kind == "missing":
            broken.symlink_to("nowhere")
        elif kind == "no image":
            broken.write_bytes(b"no image")
        else:
            content = (folder / "cat" / "0.jpg").read_bytes()
            broken.write_bytes(content[: len(content) // 2])
        # It is the first of its file, too, which has the names of the classes.
        for seed in range(5):
            with (
                self.assertLogs("absl", "WARNING") as logs,
                contextlib.redirect_stdout(io.StringIO()) as printed,
            ):
                pack(folder, self.folder / "set", num_shards=1, shuffle_seed=seed)
            self.assertRegex(" ".join(logs.output), r"skipped.*/labeled/cat/9\.jpg$")
            self.assertStartsWith(printed.getvalue(), "4 images, 1 left out in 1 files")
            source = sources.open_source(f"tfrecord:{self.folder}/set-*")
            self.assertEqual(source.class_names, ("cat", "dog"))
            labels = [int(source.read(tf.constant(k, tf.int64))["label"]) for k in range(4)]
            self.assertEqual(sorted(labels), [0, 0, 1, 1])

    def test_too_many_files_that_cannot_be_decoded_leave_no_packing(self):
        output = self.folder / "out" / "set"
        (self.folder / "in" / "8.jpg").symlink_to("nowhere")
        (self.folder / "in" / "9.jpg").write_bytes(b"no image")
        for num_shards, share in ((1, 0.01), (3, 0.0)):
            with self.assertRaisesRegex(BrokenImagesError, r"^\d of the 6 images of \S+/in cannot"):
                pack(self.folder / "in", output, num_shards=num_shards, max_broken_share=share)
            self.assertEmpty(list(output.parent.glob("*.tfrecord")))

    def test_the_first_that_is_too_many_ends_the_packing(self):
        for number in range(10, 30):
            (self.folder / "in" / f"{number}.jpg").symlink_to("nowhere")
        with (
            self.assertLogs("absl", "WARNING") as logs,
            self.assertRaisesRegex(BrokenImagesError, "^2 of the 24 images"),
        ):
            pack(self.folder / "in", self.folder / "set", num_shards=1)
        self.assertLen(logs.output, 2)

    def test_an_error_does_not_wait_for_the_other_files(self):
        def write(path, *_):
            if "-00000-" in path:
                raise FlagError("--input=...: an image cannot be read")
            written.append(path)
            time.sleep(0.5)
            return 1, []

        written = []
        with (
            mock.patch.object(make_tfrecords, "write_shard", write),
            self.assertRaisesRegex(FlagError, "--input="),
        ):
            pack(self.folder / "in", self.folder / "set", num_shards=4, workers=1)
        self.assertLess(len(written), 3)

    def test_images_that_shrinking_would_turn_black_are_named(self):
        dark = tf.io.encode_png(tf.fill((40, 40, 1), tf.constant(4000, tf.uint16))).numpy()
        for file in (self.folder / "in").iterdir():
            file.unlink()
        (self.folder / "in" / "dark.png").write_bytes(dark)
        with self.assertLogs("absl", "WARNING") as log:
            pack(self.folder / "in", self.folder / "set", num_shards=1, short_side=20)
        self.assertIn("in/dark.png: its 16-bit values are 4000 to 4000", log.output[0])

    def test_a_process_that_the_system_ends_is_one_line(self):
        with (
            mock.patch.object(
                make_tfrecords,
                "write_shards",
                side_effect=concurrent.futures.process.BrokenProcessPool,
            ),
            self.assertRaisesRegex(FlagError, "^--workers=2: the system ended a process"),
        ):
            pack(self.folder / "in", self.folder / "out" / "set", workers=2)

    def test_a_folder_that_cannot_be_read_is_one_line(self):
        with (
            mock.patch.object(os, "scandir", side_effect=PermissionError(13, "no access")),
            self.assertRaisesRegex(FlagError, r"^--input=\S+/in: .*no access"),
        ):
            pack(self.folder / "in", self.folder / "set")

    def test_the_printed_files_are_those_of_this_prefix_alone(self):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            pack(self.folder / "in", self.folder / "set")
        pack(self.folder / "in", self.folder / "set-b")
        (dataset,) = re.findall(r"--dataset='(.*)'", printed.getvalue())
        self.assertEqual(sources.open_source(dataset).num_examples, 4)


def pack(folder, output, **options):
    options = {"num_shards": 2} | options
    with mock.patch("concurrent.futures.ProcessPoolExecutor", thread_pool):
        run(RecordOptions.make(input=folder, output=output, **options))


def thread_pool(workers, **_):
    return concurrent.futures.ThreadPoolExecutor(workers)


@pytest.mark.slow
class MakeTfrecordsTest(tf.test.TestCase):
    def test_bytes_and_labels_survive(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for number, name in enumerate(("cat", "dog")):
            write_photos(folder / "in" / name, count=5, seed=number)
        result = run_job(
            "make_tfrecords.py",
            f"--input={folder / 'in'}",
            f"--output={folder / 'out' / 'set'}",
            "--num_shards=3",
            "--workers=2",
        )
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertIn("10 images in 3 files", result.stdout)
        files = sorted(path.name for path in (folder / "out").iterdir())
        self.assertEqual(files, [f"set-0000{k}-of-00003.tfrecord" for k in range(3)])
        packed = sources.open_source(f"tfrecord:{folder / 'out' / 'set'}*")
        plain = sources.open_source(f"folder:{folder / 'in'}")

        def content(source):
            examples = [source.read(tf.constant(k, tf.int64)) for k in range(10)]
            return sorted((e["image"].numpy(), int(e["label"])) for e in examples)

        self.assertEqual(content(packed), content(plain))
        self.assertEqual({label for _, label in content(packed)}, {0, 1})

    def test_large_images_are_shrunk(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(folder / "in", count=2, size=40)
        write_photos(folder / "in" / "large", count=2, size=200)
        (folder / "in" / "broken.jpg").write_bytes(b"no image")
        result = run_job(
            "make_tfrecords.py",
            f"--input={folder / 'in'}",
            f"--output={folder / 'set'}",
            "--num_shards=1",
            "--short_side=80",
        )
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        source = sources.open_source(f"tfrecord:{folder / 'set'}*")
        self.assertIn("4 images, 1 left out in 1 files", result.stdout)
        contents = [source.read(tf.constant(k, tf.int64))["image"].numpy() for k in range(4)]
        self.assertIn((folder / "in" / "0.jpg").read_bytes(), contents)
        shapes, errors = [], []
        for content in contents:
            image = tf.cast(tf.io.decode_jpeg(content), tf.float32)
            shapes.append(tuple(image.shape[:2]))
            if shapes[-1][0] == 80:
                originals = [
                    tf.io.decode_jpeg(path.read_bytes())
                    for path in (folder / "in" / "large").iterdir()
                ]
                resized = [tf.image.resize(one, image.shape[:2], "area") for one in originals]
                errors.append(min(float(tf.reduce_mean(abs(image - one))) for one in resized))
        self.assertCountEqual(shapes, [(40, 40), (40, 41), (80, 80), (80, 80)])
        self.assertLess(max(errors), 3)

    def test_bad_input_is_one_line(self):
        folder = self.create_tempdir().full_path
        for flags, named in (
            ((f"--input={folder}/no", f"--output={folder}/x"), "--input="),
            ((f"--input={folder}", f"--output={folder}/x"), "--input="),
            ((f"--output={folder}/x",), "input"),
        ):
            result = run_job("make_tfrecords.py", *flags)
            self.assertEqual(result.returncode, 1)
            (line,) = [x for x in result.stderr.splitlines() if x.startswith("error:")]
            self.assertIn(named, line)


if __name__ == "__main__":
    tf.test.main()
