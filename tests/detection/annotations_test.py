import pathlib

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

    def test_no_image(self):
        check_images([], [], [])


if __name__ == "__main__":
    tf.test.main()
