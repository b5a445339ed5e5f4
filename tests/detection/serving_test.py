import types

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.serving import ServedDetector


def whole_image(images, sizes):
    """Detects the image itself, as likely as it is bright."""
    box = tf.stack([0.0, 0.0, sizes[0, 1], sizes[0, 0]])
    return {
        "boxes": box[None, None],
        "scores": tf.reduce_max(images)[None, None],
        "classes": tf.zeros((1, 1), tf.int32),
    }


class ServedDetectorTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((64, 96), (96, 64), (800, 64))
    def test_images_of_any_shape_fit(self, short_side, max_side):
        detector = types.SimpleNamespace(weights=[], detect=whole_image)
        served = ServedDetector(detector, lambda x: x, ("cat",), short_side, max_side)
        for height, width in ((40, 60), (60, 40), (50, 50), (4, 90)):
            found = served(np.ones((height, width, 3), np.uint8))
            self.assertAllClose(found["boxes"], [[0, 0, width, height]])
            self.assertAllEqual(found["names"], [b"cat"])


if __name__ == "__main__":
    tf.test.main()
