import numpy as np
import tensorflow as tf

from pixpro_keras.visualize.confusion import draw_confusion_matrix
from pixpro_keras.visualize.figures import figure_to_array


class ConfusionTest(tf.test.TestCase):
    def test_the_diagonal_is_bright(self):
        pixels = figure_to_array(draw_confusion_matrix(np.diag([3, 1, 2]), ["a", "b", "c"]))
        # Full and empty shares of the color map are on the picture.
        for color in ([253, 231, 36], [68, 1, 84]):
            self.assertTrue((np.abs(pixels.astype(int) - color).max(axis=-1) <= 2).any())


if __name__ == "__main__":
    tf.test.main()
