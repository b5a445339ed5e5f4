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

    def test_the_worst_pairs_are_listed_by_name(self):
        matrix = np.array([[8, 2, 0], [0, 9, 1], [5, 0, 5]])
        text = draw_confusion_matrix(matrix, ["cat", "dog", "cow"]).axes[1]
        lines = [line.get_text().strip() for line in text.texts]
        self.assertEqual(
            lines, ["50% (5)  cow as cat", "20% (2)  cat as dog", "10% (1)  dog as cow"]
        )

    def test_confused_classes_stand_side_by_side(self):
        matrix = np.eye(6) * 9
        matrix[0, 5] = matrix[2, 4] = 5
        figure = draw_confusion_matrix(matrix, list("abcdef"))
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        self.assertEqual(abs(names.index("a") - names.index("f")), 1)
        self.assertEqual(abs(names.index("c") - names.index("e")), 1)


if __name__ == "__main__":
    tf.test.main()
