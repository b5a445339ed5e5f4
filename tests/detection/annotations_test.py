import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf

from pixpro_keras.detection.annotations import check_images


class CheckImagesTest(tf.test.TestCase):
    def test_images_of_16_bits_that_are_nearly_black_are_told(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "dark.png"
        for highest, is_dark in ((4095, True), (65535, False)):
            pixels = np.linspace(0, highest, 48).reshape(6, 8, 1).astype(np.uint16)
            path.write_bytes(tf.io.encode_png(pixels).numpy())
            if is_dark:
                with self.assertLogs("absl", "WARNING") as logs:
                    check_images([path], [(6, 8)], [path])
                self.assertIn(f"{path}: its 16-bit values are 0 to 4095", logs.output[0])
            else:
                with self.assertNoLogs("absl", "WARNING"):
                    check_images([path], [(6, 8)], [path])

    def test_one_size_of_hundreds_that_is_wrong_is_named(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        image = tf.io.encode_png(tf.zeros((6, 8, 3), tf.uint8)).numpy()
        paths = [folder / f"{number}.png" for number in range(600)]
        for path in paths:
            path.write_bytes(image)
        sizes = [(6, 8)] * len(paths)
        sizes[301] = (8, 6)
        with self.assertRaisesRegex(ValueError, "301.png is 8 pixels wide and 6 high, but 6 wide"):
            check_images(paths, sizes, paths)

    def test_an_image_that_cannot_be_read_is_left_to_the_decoding(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "one.png"
        path.write_bytes(tf.io.encode_png(tf.zeros((6, 8, 3), tf.uint8)).numpy())
        with mock.patch.object(pathlib.Path, "read_bytes", side_effect=OSError("input/output")):
            check_images([path], [(6, 8)], [path])

    def test_no_image(self):
        check_images([], [], [])


if __name__ == "__main__":
    tf.test.main()
