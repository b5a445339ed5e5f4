from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection import fpn_detector
from pixpro_keras.detection.detector import DetectorConfig
from pixpro_keras.detection.fpn_detector import FPNDetector, assign_boxes_to_levels


def backbone(*strides):
    """Convolutions of given strides."""
    inputs = x = keras.Input((None, None, 3))
    for stride in strides:
        x = keras.layers.Conv2D(8, 3, stride, "same")(x)
    return keras.Model(inputs, x, name="small")


@mock.patch.object(fpn_detector, "_CHANNELS", 8)
class FPNDetectorTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ((2, 2, 2, 2, 2), (4, 8, 16, 32, 64)), ((2, 2, 2, 2, 1), (4, 8, 16, 16, 32))
    )
    def test_anchors_and_boxes_lie_where_their_cells_do(self, steps, strides):
        task = FPNDetector(backbone(*steps), DetectorConfig(2))
        maps = task.feature_maps(np.zeros((1, 512, 512, 3), "f"), training=False)
        self.assertEqual([512 // x.shape[1] for x in maps], list(strides))
        for anchors, stride in zip(task.anchors(maps), strides, strict=True):
            centers = (anchors[:, 0] + anchors[:, 2]) / 2
            # As in detectron2, an anchor's center is the upper left corner of its cell.
            self.assertAllClose(np.unique(np.round(centers, 3)), np.arange(0, 512, stride))
        # Maps of the x coordinates of the centers of their cells.
        maps = [np.zeros((1, 512 // s, 512 // s, 1), "f") for s in strides]
        for x, stride in zip(maps, strides, strict=True):
            x += ((np.arange(x.shape[2]) + 0.5) * stride)[:, None]
        boxes = np.array([[[40, 40, 70, 60], [100, 60, 250, 200], [50, 20, 500, 500]]], "f")
        self.assertAllEqual(assign_boxes_to_levels(boxes)[0], [0, 1, 3])
        pooled = task.mask_features(maps, boxes)
        self.assertAllClose(np.mean(pooled, axis=(2, 3, 4)), [[55, 175, 275]], rtol=1e-5)

    def test_other_strides_are_refused(self):
        with self.assertRaisesRegex(
            ValueError, r"`backbone` must have C2 to C5 .* small, at 4, 8, 16, 64\."
        ):
            FPNDetector(backbone(2, 2, 2, 2, 4), DetectorConfig(2))

    def test_levels_of_boxes_are_detectron2s(self):
        sides = np.array([10, 111, 112, 223, 224, 447, 448, 2000], "f")
        boxes = np.stack([sides * 0, sides * 0, sides, sides], axis=-1)[None]
        self.assertAllEqual(assign_boxes_to_levels(boxes)[0], [0, 0, 1, 1, 2, 2, 3, 3])


if __name__ == "__main__":
    tf.test.main()
