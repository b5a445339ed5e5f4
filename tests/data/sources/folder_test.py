import os
import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.sources import open_source
from tests.helpers.examples import read_example


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

    def test_missing_folder(self):
        with self.assertRaisesRegex(ValueError, "/no/such/place is not a folder"):
            open_source("folder:/no/such/place")


if __name__ == "__main__":
    tf.test.main()
