import pathlib

import numpy as np
import tensorflow as tf

from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_source import resized
from tests.helpers.examples import read_masks, save_image


class MaskSourceTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)
        self.image = np.random.default_rng(0).integers(0, 255, (6, 8, 3))

    def test_resized_masks_hold_no_new_class(self):
        mask = 3 * (np.arange(48).reshape(6, 8) % 2)
        save_image(self.root / "images" / "a.png", self.image)
        save_image(self.root / "labels" / "a.png", mask)
        ((image, found),) = read_masks(resized(open_masks(f"folder:{self.root}", "x"), (9, 4)))
        self.assertEqual((image.shape, image.dtype), ((9, 4, 3), np.uint8))
        rows, columns = (np.arange(9) * 2 + 1) * 6 // 18, (np.arange(4) * 2 + 1) * 8 // 8
        self.assertAllEqual(found, mask[rows][:, columns])


if __name__ == "__main__":
    tf.test.main()
