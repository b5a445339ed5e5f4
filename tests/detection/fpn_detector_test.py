import numpy as np
import tensorflow as tf

from pixpro_keras.detection.fpn_detector import assign_boxes_to_levels


class FPNDetectorTest(tf.test.TestCase):
    def test_levels_of_boxes_are_detectron2s(self):
        sides = np.array([10, 111, 112, 223, 224, 447, 448, 2000], "f")
        boxes = np.stack([sides * 0, sides * 0, sides, sides], axis=-1)[None]
        self.assertAllEqual(assign_boxes_to_levels(boxes)[0], [0, 0, 1, 1, 2, 2, 3, 3])


if __name__ == "__main__":
    tf.test.main()
