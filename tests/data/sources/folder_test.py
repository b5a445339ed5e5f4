import os
import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.sources import open_source
from pixpro_keras.data.sources.folder import find_image
from tests.helpers.examples import read_example
from tests.helpers.shared_data import shared_path


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
        return open_source(f"folder:{self.folder}")

    def test_finds_images_at_any_depth_in_byte_order(self):
        names = ["b.jpg", "a/z.PNG", "a/b/c.webp", "a-b/x.jpeg", "B.bmp", "é/ü ö.Jpg", "a.jpg"]
        self.write(*names, "a/notes.txt", "jpg", "a/b/c.webp.txt")
        source = self.open()
        expected = sorted(names, key=os.fsencode)
        self.assertEqual(source.num_examples, len(names))
        for index, name in enumerate(expected):
            self.assertEqual(read_example(source, index), (name.encode(), -1))
            self.assertEqual(source.describe(index), str(self.folder / name))
        self.assertIsNone(source.class_names)

    def test_a_path_object_is_a_folder(self):
        self.write("a.jpg")
        source = open_source(self.folder)
        self.assertEqual(source.describe(0), str(self.folder / "a.jpg"))
        with self.assertRaisesRegex(TypeError, "os.PathLike object, not list"):
            open_source([str(self.folder)])

    def test_class_folders_are_labels(self):
        # Sorted as names, `a` comes before `a-b`; the paths below them sort the other way.
        self.write("dog/2.jpg", "a/1.jpg", "a-b/7.jpg", "dog/1.jpg")
        source = self.open()
        self.assertEqual(source.class_names, ("a", "a-b", "dog"))
        labels = {read_example(source, index) for index in range(4)}
        self.assertEqual(
            labels, {(b"a/1.jpg", 0), (b"a-b/7.jpg", 1), (b"dog/1.jpg", 2), (b"dog/2.jpg", 2)}
        )

    @parameterized.parameters("loose.jpg", "a/b/deep.jpg")
    def test_any_other_layout_has_no_labels(self, name):
        self.write("a/1.jpg", "b/2.jpg", name)
        source = self.open()
        self.assertIsNone(source.class_names)
        self.assertEqual([read_example(source, index)[1] for index in range(3)], [-1] * 3)

    def test_follows_links_but_not_in_circles(self):
        self.write("a/1.jpg")
        (self.folder / "a" / "up").symlink_to(self.folder)
        other = pathlib.Path(self.create_tempdir().full_path)
        (other / "2.jpg").write_bytes(b"elsewhere")
        (self.folder / "b").symlink_to(other)
        source = self.open()
        self.assertEqual(source.num_examples, 2)
        self.assertEqual(read_example(source, 1)[0], b"elsewhere")

    @parameterized.parameters(
        "a/.ipynb_checkpoints/1.jpg",
        ".ipynb_checkpoints/1.jpg",
        "__MACOSX/a/1.jpg",
        "a/._1.jpg",
        ".DS_Store",
        ".Trashes/x/1.jpg",
        "@eaDir/1.jpg/thumb.jpg",
        "a/Thumbs.db",
    )
    def test_hidden_files_are_never_read(self, name):
        self.write("a/1.jpg", "b/1.jpg", name)
        with self.assertNoLogs("absl", "WARNING"):
            source = self.open()
        self.assertEqual((source.num_examples, source.class_names), (2, ("a", "b")))

    @parameterized.parameters(("macos", 20), ("mixed_tif", 4), ("cls_ipynb_both/train", 16))
    def test_faults(self, case, count):
        source = open_source(f"folder:{shared_path('faults', *case.split('/'))}")
        self.assertEqual(source.num_examples, count)

    def test_named_pipes_are_no_images(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        (folder / "a.jpg").touch()
        os.mkfifo(folder / "b.jpg")
        with self.assertLogs("absl", "WARNING") as logs:
            self.assertEqual(open_source(f"folder:{folder}").num_examples, 1)
        self.assertIn("skipped 1 files of other kinds (.jpg)", logs.output[0])

    def test_files_of_other_kinds_are_counted_in_one_line(self):
        self.write("1.jpg", "a/x.tif", "a/y.TIF", "notes", "b/n.heic")
        with self.assertLogs("absl", "WARNING") as logs:
            self.open()
        (line,) = logs.output
        self.assertIn("skipped 4 files of other kinds (.tif, ", line)
        for kind in ("no ending", ".heic"):
            self.assertIn(kind, line)

    def test_pictures_of_a_training_are_no_data(self):
        self.write("1.jpg", "a/2.jpg")
        (self.folder / "flags.cfg").touch()  # of the folder that is asked for
        names = ("flags.cfg", "metrics.jsonl", "curves.png", "pictures/similarity_0000000.png")
        self.write(*(f"a/runs/mine/{name}" for name in names))
        with self.assertLogs("absl", "WARNING") as logs:
            source = self.open()
        self.assertEqual(source.num_examples, 2)
        text = "\n".join(logs.output)
        self.assertIn("skipped 1 folders of trainings, such as a/runs/mine", text)
        self.assertIn("skipped 1 files of other kinds (.cfg)", text)

    def test_links_that_lead_to_each_other(self):
        self.write("a/1.jpg", "b/2.jpg")
        (self.folder / "a" / "x").symlink_to("../b")
        (self.folder / "b" / "y").symlink_to("../a")
        (self.folder / "self").symlink_to("self")
        with self.assertLogs("absl", "WARNING") as logs:
            source = self.open()
        self.assertEqual([source.describe(i)[-7:] for i in range(2)], ["a/1.jpg", "b/2.jpg"])
        self.assertEqual((source.num_examples, source.class_names), (2, ("a", "b")))
        self.assertIn("2 links not followed", "".join(logs.output))

    def test_folders_elsewhere_are_read_once(self):
        other = pathlib.Path(self.create_tempdir().full_path)
        (other / "deep").mkdir()
        (other / "deep" / "1.jpg").touch()
        (other / "deep" / "up").symlink_to(other)
        self.write(".store/2.jpg")
        for name, target in (("a", other / "deep"), ("b", other), ("c", self.folder / ".store")):
            (self.folder / name).symlink_to(target)
        source = self.open()
        found = [source.describe(index) for index in range(source.num_examples)]
        self.assertEqual(
            [path[len(str(self.folder)) + 1 :] for path in found], ["a/1.jpg", "c/2.jpg"]
        )

    def test_an_image_is_found_by_its_stem(self):
        self.write("a b.PNG", "two.jpg", "two.png")
        self.assertEqual(find_image(self.folder, "a b"), self.folder / "a b.PNG")
        self.assertEqual(find_image(self.folder, "none"), self.folder / "none.jpg")
        with self.assertRaisesRegex(ValueError, r"two\.jpg and .*two\.png have the same name"):
            find_image(self.folder, "two")

    def test_reads_inside_a_map(self):
        self.write(*(f"{number:03}.jpg" for number in range(50)))
        source = self.open()
        data = tf.data.Dataset.range(50).map(source.read, num_parallel_calls=4)
        self.assertEqual(
            [example["image"].numpy().decode() for example in data],
            [f"{number:03}.jpg" for number in range(50)],
        )

    def test_the_fingerprint_is_of_names_below_the_folder(self):
        first, other = (pathlib.Path(self.create_tempdir().full_path) for _ in range(2))
        for folder in (first, other):
            (folder / "a.jpg").touch()
            (folder / "b.jpg").touch()
        before = open_source(f"folder:{first}").fingerprint
        self.assertLen(before, 16)
        self.assertEqual(open_source(f"folder:{other}/").fingerprint, before)
        (other / "b.jpg").rename(other / "c.jpg")
        self.assertNotEqual(open_source(f"folder:{other}").fingerprint, before)

    def test_the_fingerprint_of_contents_is_of_sizes(self):
        self.write("a.jpg", "b.jpg")
        (self.folder / "c.jpg").symlink_to("nowhere")
        before = self.open()
        (self.folder / "b.jpg").write_bytes(b"another image")
        after = self.open()
        self.assertEqual(after.fingerprint, before.fingerprint)
        self.assertNotEqual(after.content_fingerprint, before.content_fingerprint)
        self.write("b.jpg")
        self.assertEqual(self.open().content_fingerprint, before.content_fingerprint)

    def test_an_empty_folder_says_what_was_looked_for(self):
        with self.assertRaisesRegex(ValueError, r"holds no image \(\.jpg, \.jpeg, \.png"):
            self.open()

    def test_missing_folder(self):
        with self.assertRaisesRegex(ValueError, "/no/such/place is not a folder"):
            open_source("folder:/no/such/place")

    def test_folders_that_are_joined_otherwise(self):
        one, two = self.folder / "one", self.folder / "two"
        for folder in (one, two):
            folder.mkdir()
        for between in ("+", ",", ",folder:"):
            with self.assertRaises(ValueError) as refused:
                open_source(f"folder:{one}{between}{two}")
            self.assertEndsWith(
                str(refused.exception), f"not a folder; did you mean folder:{one}+folder:{two}?"
            )


if __name__ == "__main__":
    tf.test.main()
