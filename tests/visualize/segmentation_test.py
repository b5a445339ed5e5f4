import numpy as np
import tensorflow as tf

from pixpro_keras.visualize.figures import figure_to_array
from pixpro_keras.visualize.segmentation import class_colors, draw_segmentations


class DrawTest(tf.test.TestCase):
    def test_colors_differ(self):
        colors = class_colors(21)
        distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
        self.assertGreater(distances[~np.eye(21, dtype=bool)].min(), 0.05)

    def test_classes_have_their_colors(self):
        mask = np.zeros((8, 8), int)
        mask[:, 4:], mask[0] = 1, 255
        image = np.full((8, 8, 3), 128, np.uint8)
        pixels = figure_to_array(draw_segmentations([image], [mask], [mask], ["one", "two"]))
        for color in (*(255 * class_colors(2)), np.zeros(3)):
            close = np.abs(pixels - color).max(axis=-1) <= 2
            self.assertGreater(close.sum(), 100)


if __name__ == "__main__":
    tf.test.main()
