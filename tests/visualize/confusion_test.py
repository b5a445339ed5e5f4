import numpy as np
import tensorflow as tf

from pixpro_keras.visualize.confusion import confusion_matrix, draw_confusion
from pixpro_keras.visualize.figures import figure_to_array


class ConfusionTest(tf.test.TestCase):
    def test_counts_equal_a_loop(self):
        rng = np.random.default_rng(0)
        labels, predictions = rng.integers(0, 4, size=(2, 50))
        expected = np.zeros((4, 4), int)
        for label, prediction in zip(labels, predictions, strict=True):
            expected[label, prediction] += 1
        self.assertAllEqual(confusion_matrix(labels, predictions, 4), expected)

    def test_the_diagonal_is_bright(self):
        pixels = figure_to_array(draw_confusion(np.diag([3, 1, 2]), ["a", "b", "c"]))
        # Full and empty shares of the colour map are on the picture.
        for color in ([253, 231, 36], [68, 1, 84]):
            self.assertTrue((np.abs(pixels.astype(int) - color).max(axis=-1) <= 2).any())


if __name__ == "__main__":
    tf.test.main()
