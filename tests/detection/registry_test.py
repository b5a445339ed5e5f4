import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import detection
from pixpro_keras.detection import C4Detector, DetectorConfig, FPNDetector
from tests.helpers.tiny_networks import tiny_pyramid_backbone


class RegistryTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("faster_rcnn_c4", C4Detector, False),
        ("mask_rcnn_c4", C4Detector, True),
        ("mask_rcnn_fpn", FPNDetector, True),
    )
    def test_a_name_says_class_and_masks(self, name, detector_class, with_masks):
        task = detection.build(name, tiny_pyramid_backbone(), DetectorConfig(2), accumulate_steps=2)
        self.assertIsInstance(task, detector_class)
        self.assertEqual(task.config.with_masks, with_masks)
        self.assertEqual(task.accumulate_steps, 2)
        self.assertEqual(detection.predicts_masks(name), with_masks)

    @parameterized.parameters(*detection.available())
    def test_no_two_kernels_are_drawn_alike(self, name):
        task = detection.build(name, tiny_pyramid_backbone(), DetectorConfig(2))
        starts = [
            variable.numpy().ravel()[:8]
            for variable in task.trainable_variables
            if variable.name == "kernel"
        ]
        self.assertGreater(len(starts), 8)
        self.assertLen({tuple(np.round(x / x[0], 3)) for x in starts}, len(starts))

    def test_all_names_are_available(self):
        self.assertEqual(detection.available(), ["faster_rcnn_c4", "mask_rcnn_c4", "mask_rcnn_fpn"])

    def test_an_unknown_name_is_refused(self):
        with self.assertRaisesRegex(ValueError, "`name` must be one of .*'yolo'"):
            detection.build("yolo", tiny_pyramid_backbone(), DetectorConfig(2))


if __name__ == "__main__":
    tf.test.main()
