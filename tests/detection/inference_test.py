import numpy as np
import tensorflow as tf

from pixpro_keras.data.broken_images import BrokenImagesError, WrongValueError
from pixpro_keras.detection.box_pipeline import count_broken
from pixpro_keras.detection.box_source import COCO, BoxSource
from pixpro_keras.detection.inference import detect_in_source
from pixpro_keras.detection.objects import make_objects


def source_of(images, size=(40, 60)):
    count = len(images)
    objects = [make_objects("i", size, [[0, 0, 9, 9]], [0], [False])] * count
    sizes = np.array([size] * count, np.int32)
    read = lambda index: tf.constant(images)[index]  # noqa: E731
    return BoxSource("s", read, str, sizes, objects, ("cat",), range(count), [1], COCO)


def detect(images, sizes):
    del sizes
    count = tf.shape(images)[0]
    return {
        "boxes": tf.ones((count, 1, 4)),
        "scores": tf.ones((count, 1)),
        "classes": tf.zeros((count, 1), tf.int32),
    }


class DetectInSourceTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.image = tf.io.encode_png(tf.zeros((40, 60, 3), tf.uint8)).numpy()

    def found(self, source, max_broken_share):
        broken = count_broken(source, max_broken_share)
        detected = detect_in_source(detect, source, lambda x: x, 32, 64, broken=broken)
        return [index for index, _, _ in detected]

    def test_broken_images_are_passed_over_and_named(self):
        source = source_of([self.image, b"", self.image])
        with self.assertLogs("absl", "WARNING") as logs:
            self.assertEqual(self.found(source, 0.01), [0, 2])
        self.assertIn("cannot be decoded: 1", logs.output[0])
        with self.assertRaisesRegex(BrokenImagesError, "1 of the 3 images"):
            self.found(source, 0.0)

    def test_another_size_than_annotated_is_refused(self):
        with self.assertRaisesRegex(WrongValueError, "differ in size, .* 40 x 60 and 40 x 61"):
            self.found(source_of([self.image], (40, 61)), 0.5)


if __name__ == "__main__":
    tf.test.main()
