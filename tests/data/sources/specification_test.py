import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.sources import Openers, open_source, split_specification
from pixpro_keras.detection.datasets import open_boxes


class SpecificationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("", "imagenet", "folder", "folder:", "tfds:", "zip:x", "tfrecord:")
    def test_an_unknown_kind_is_named(self, spec):
        with self.assertRaisesRegex(ValueError, f"Received: '{spec}'"):
            open_source(spec)

    def test_the_error_lists_the_usages(self):
        usages = r"scenes\[:SPLIT\], folder:PATH, tfds:.* or tfrecord:GLOB, or several with \+"
        with self.assertRaisesRegex(ValueError, f"the data set must be {usages}"):
            open_source("zip:x")

    def test_a_path_gets_a_suggestion(self):
        folder = self.create_tempdir().full_path
        file = self.create_tempfile("x.tfrecord").full_path
        for path, kind in ((folder, "folder"), (f"{folder}/", "folder"), (file, "tfrecord")):
            with self.assertRaisesRegex(ValueError, rf"did you mean {kind}:{path}\?$"):
                open_source(path)
        with self.assertRaisesRegex(ValueError, f"did you mean voc:{folder} or coco:{folder}"):
            open_boxes(folder, "train")
        with self.assertRaisesRegex(ValueError, f"did you mean voc:{folder} or coco:{folder}"):
            open_boxes(pathlib.Path(folder), "train")
        for path in ("", "absent", f"zip:{folder}"):
            with self.assertRaisesRegex(ValueError, f"Received: '{path}'$"):
                open_source(path)

    @parameterized.parameters(
        ("folder:a+b", ["folder:a+b"]),
        ("folder:a+scenes", ["folder:a", "scenes"]),
        ("scenes:train+scenesque", ["scenes:train+scenesque"]),
        ("scenes+tfds:x:train[:1%]+tfrecord:y", ["scenes", "tfds:x:train[:1%]", "tfrecord:y"]),
    )
    def test_a_plus_is_between_sources_only_where_one_begins(self, specification, parts):
        self.assertEqual(split_specification(specification), parts)

    @parameterized.parameters(
        ("must:x", ("must:x", "x")),
        ("may", ("may", "")),
        ("may:x", ("may:x", "x")),
        ("no", ("no", "")),
    )
    def test_an_opener_gets_the_rest(self, specification, expected):
        self.assertEqual(self.openers().open(specification), expected)

    @parameterized.parameters("must", "must:", "no:x", "")
    def test_what_follows_a_kind_is_checked(self, specification):
        with self.assertRaisesRegex(ValueError, r"must:A, may\[:B\] or no. Received"):
            self.openers().parse(specification)

    def openers(self):
        def opener(*arguments):
            return arguments

        return Openers({"must:A": opener, "may[:B]": opener, "no": opener})


if __name__ == "__main__":
    tf.test.main()
