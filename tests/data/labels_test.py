import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.labels import (
    read_labels,
    read_presence,
    select,
    stratified_images,
    stratified_subset,
)
from pixpro_keras.data.sources import open_source
from pixpro_keras.segmentation.mask_source import MaskSource
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


class StratifiedImagesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.01, 0.1, 0.4, 1.0)
    def test_each_class_keeps_its_share(self, fraction):
        rng = np.random.default_rng(0)
        presence = rng.random((200, 5)) < [0.9, 0.5, 0.2, 0.01, 0.0]
        chosen = stratified_images(presence, fraction, seed=3)
        self.assertAllEqual(np.unique(chosen), chosen)
        counts = presence.sum(0)
        self.assertAllGreaterEqual(
            presence[chosen].sum(0) - np.where(counts, np.maximum(fraction * counts, 1), 0), -0.5
        )
        self.assertBetween(len(chosen), 200 * fraction, 200 * fraction + 4)
        self.assertAllEqual(stratified_images(presence, fraction, seed=3), chosen)
        if fraction < 1:
            self.assertNotAllEqual(stratified_images(presence, fraction, seed=4), chosen)

    def test_bad_fraction(self):
        with self.assertRaisesRegex(ValueError, "fraction=2"):
            stratified_images(np.ones((4, 2), bool), 2)

    def test_presence_equals_a_loop(self):
        masks = np.random.default_rng(0).choice([0, 1, 2, 3, 255], (6, 2, 2)).astype("int32")
        table = tf.constant(masks)
        source = MaskSource("", 6, lambda i: (table[i], table[i]), str, ("a", "b", "c", "d"))
        found = read_presence(source)
        self.assertAllEqual(found, [[label in mask for label in range(4)] for mask in masks])


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


if __name__ == "__main__":
    tf.test.main()
