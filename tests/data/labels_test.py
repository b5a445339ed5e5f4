import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.labels import read_labels, select, stratified_subset
from pixpro_keras.data.sources import open_source
from tests.experiments.cli import write_photos


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


if __name__ == "__main__":
    tf.test.main()
