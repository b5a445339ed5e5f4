import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.labels import (
    check_labels,
    read_labels,
    select,
    stratified_subset,
    warn_of_shared,
)
from pixpro_keras.data.sources import Source, open_source
from tests.helpers.jobs import write_photos


class SubsetTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0.1, [10, 4, 1]), (0.5, [50, 20, 2]), (1.0, [100, 40, 3]))
    def test_takes_the_share_of_each_class(self, fraction, counts):
        labels = np.random.default_rng(0).permutation(np.repeat([0, 2, 5], [100, 40, 3]))
        chosen = stratified_subset(labels, fraction, seed=1)
        self.assertAllEqual(np.sort(chosen), chosen)
        self.assertAllEqual(np.unique(labels[chosen], return_counts=True)[1], counts)
        self.assertLen(set(chosen), sum(counts))
        self.assertAllEqual(stratified_subset(labels, fraction, seed=1), chosen)
        if fraction < 1:
            self.assertNotAllEqual(stratified_subset(labels, fraction, seed=2), chosen)

    def test_leaves_some_of_each_class(self):
        labels = np.repeat([0, 1, 2], [1, 2, 30])
        chosen = stratified_subset(labels, 0.9, num_left=1)
        self.assertAllEqual(np.bincount(labels[chosen]), [0, 1, 27])

    @parameterized.parameters(0.0, 1.1)
    def test_bad_fraction(self, fraction):
        with self.assertRaisesRegex(ValueError, f"fraction={fraction}"):
            stratified_subset(np.zeros(4), fraction)


class SourceTest(tf.test.TestCase):
    def test_labels_and_parts_of_a_folder(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for number, name in enumerate("abc"):
            write_photos(folder / name, count=2 + number)
        source = open_source(f"folder:{folder}")
        labels = read_labels(source)
        self.assertAllEqual(labels, [0, 0, 1, 1, 1, 2, 2, 2, 2])
        part = select(source, [8, 3])
        self.assertEqual(part.num_examples, 2)
        self.assertAllEqual(read_labels(part), [2, 1])
        self.assertEqual(part.describe(1), source.describe(3))
        one, two = (s.read(tf.constant(i, tf.int64))["image"] for s, i in ((part, 0), (source, 8)))
        self.assertEqual(one, two)

    def test_test_images_that_are_training_images_are_counted(self):
        train, test = (
            Source("s", len(names), lambda index: {}, names.__getitem__)
            for names in ("abcd", "xdyb")
        )
        with self.assertLogs("absl", "WARNING") as logs:
            warn_of_shared(train, test)
        self.assertIn("2 of the 4 test images are training images, such as d", logs.output[0])
        with self.assertNoLogs("absl", "WARNING"):
            warn_of_shared(train, select(test, [0, 2]))

    def test_a_label_that_cannot_be_read_is_named(self):
        def read(index):
            with tf.control_dependencies([tf.debugging.Assert(index != 3, ["no example"])]):
                return {"image": tf.constant(b""), "label": tf.cast(index, tf.int32)}

        self.assertEqual(read_labels(Source("", 3, read, str)).tolist(), [0, 1, 2])
        with self.assertRaisesRegex(ValueError, "^record 3 has no label that .*: .*no example"):
            read_labels(Source("", 5, read, "record {}".format))

    def test_labels_are_checked(self):
        def source(label):
            return Source(
                "s", 3, lambda index: {"image": b"", "label": tf.constant(label)}, "image {}".format
            )

        check_labels(source(1), num_classes=2)
        for label, num_classes, message in (
            (-1, 2, "image 0 has no label"),
            (0, 0, "number of classes is not known"),
            (2, 2, "image 0 has the label 2, but there are 2 classes"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                check_labels(source(label), num_classes)


if __name__ == "__main__":
    tf.test.main()
