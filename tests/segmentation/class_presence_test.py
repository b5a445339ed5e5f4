import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError
from pixpro_keras.segmentation.class_presence import read_presence, stratified_images
from pixpro_keras.segmentation.mask_source import MaskSource


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

    def test_a_mask_that_cannot_be_decoded_has_no_class(self):
        def read(index):
            with tf.control_dependencies([tf.debugging.Assert(index != 2, ["broken"])]):
                return tf.zeros((2, 2, 3)), tf.fill((2, 2), tf.cast(index % 2, tf.int32))

        source = MaskSource("", 5, read, str, ("a", "b"))
        broken = BrokenImages(source, 0.2)
        found = read_presence(source, broken)
        self.assertAllEqual(found, np.array([[1, 0], [0, 1], [0, 0], [0, 1], [1, 0]], bool))
        self.assertEqual(broken.names, {2: "2"})
        with self.assertRaisesRegex(BrokenImagesError, "1 of the 5"):
            read_presence(source, BrokenImages(source, 0.0))


if __name__ == "__main__":
    tf.test.main()
