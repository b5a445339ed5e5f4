import pathlib

import tensorflow as tf

from pixpro_keras.data.sources import Source, open_source
from pixpro_keras.data.sources.joined import join
from tests.helpers.examples import read_example


class JoinedTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)

    def write(self, *names):
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())

    def open(self, *folders):
        return open_source("+".join(f"folder:{self.root / one}" for one in folders))

    def test_one_after_the_other(self):
        self.write("a/1.jpg", "a/2.jpg", "b+c/3.jpg", "d/x/4.jpg", "d/y/5.jpg")
        source = self.open("a", "b+c", "d")
        names = ["a/1.jpg", "a/2.jpg", "b+c/3.jpg", "d/x/4.jpg", "d/y/5.jpg"]
        self.assertEqual(source.num_examples, 5)
        for index, name in enumerate(names):
            self.assertEqual(read_example(source, index), (name.encode(), -1))
            self.assertEqual(source.describe(index), str(self.root / name))
        mapped = tf.data.Dataset.range(5).map(source.read).as_numpy_iterator()
        self.assertEqual([one["image"].decode() for one in mapped], names)

    def test_the_fingerprint_is_that_of_the_parts(self):
        for kind in ("fingerprint", "content_fingerprint"):
            parts = [Source(name, 1, lambda index: {}, str, **{kind: name}) for name in "abc"]
            first = getattr(join("x", parts[:2]), kind)
            self.assertEqual(getattr(join("y", parts[:2]), kind), first)
            self.assertNotEqual(getattr(join("x", parts[1:]), kind), first)

    def test_labels_stay_where_the_classes_are_the_same(self):
        self.write("a/x/1.jpg", "a/y/2.jpg", "b/x/3.jpg", "b/y/4.jpg", "c/z/5.jpg")
        source = self.open("a", "b")
        self.assertEqual(source.class_names, ("x", "y"))
        self.assertEqual([read_example(source, index)[1] for index in range(4)], [0, 1, 0, 1])
        with self.assertLogs("absl", "INFO") as log:
            self.assertIsNone(self.open("a", "c").class_names)
        self.assertIn("so that their labels are dropped", log.output[0])
        self.assertEqual(read_example(self.open("a", "c"), 0)[1], -1)

    def test_an_error_names_the_part(self):
        self.write("a/1.jpg")
        with self.assertRaisesRegex(ValueError, "nowhere is not a folder"):
            self.open("a", "nowhere")


if __name__ == "__main__":
    tf.test.main()
