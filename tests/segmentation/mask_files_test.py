import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.segmentation.mask_datasets import open_masks
from tests.helpers.examples import read_masks, save_image
from tests.helpers.shared_data import shared_path


class MaskFilesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)
        self.image = np.random.default_rng(0).integers(0, 255, (6, 8, 3))

    @parameterized.parameters(False, True)
    def test_folder(self, palette):
        mask = np.arange(48).reshape(6, 8) % 4
        mask[0, 0] = 255
        for name in ("a", "b"):
            save_image(self.root / "train" / "images" / f"{name}.png", self.image)
            save_image(self.root / "train" / "labels" / f"{name}.png", mask, palette)
        source = open_masks(f"folder:{self.root}", "train")
        self.assertEqual(source.class_names, ("class 0", "class 1", "class 2", "class 3"))
        for found_image, found_mask in read_masks(source):
            self.assertAllEqual(found_image, self.image)
            self.assertAllEqual(found_mask, mask)

    def test_folder_without_splits(self):
        save_image(self.root / "images" / "a.png", self.image)
        save_image(self.root / "labels" / "a.png", np.ones((6, 8)))
        ((_, mask),) = read_masks(open_masks(f"folder:{self.root}", "val"))
        self.assertAllEqual(mask, np.ones((6, 8)))

    def test_voc(self):
        for name in ("x", "y"):
            save_image(self.root / "JPEGImages" / f"{name}.jpg", self.image)
            save_image(self.root / "SegmentationClass" / f"{name}.png", np.full((6, 8), 20), True)
        listing = self.root / "ImageSets" / "Segmentation" / "val.txt"
        listing.parent.mkdir(parents=True)
        listing.write_text("y\n")
        source = open_masks(f"voc:{self.root}", "val")
        self.assertLen(source.class_names, 21)
        ((_, mask),) = read_masks(source)
        self.assertAllEqual(mask, np.full((6, 8), 20))

    def test_cityscapes_numbers(self):
        stem = "ulm_000000_000019"
        save_image(
            self.root / "leftImg8bit" / "train" / "ulm" / f"{stem}_leftImg8bit.png", self.image
        )
        ids = np.tile([0, 7, 8, 11, 24, 29, 33, 31], (6, 1))
        save_image(self.root / "gtFine" / "train" / "ulm" / f"{stem}_gtFine_labelIds.png", ids)
        source = open_masks(f"cityscapes:{self.root}", "train")
        self.assertLen(source.class_names, 19)
        ((_, mask),) = read_masks(source)
        self.assertAllEqual(mask[0], [255, 0, 1, 2, 11, 255, 18, 16])

    def test_camvid(self):
        source = open_masks(f"folder:{shared_path('data', 'camvid')}", "val")
        self.assertEqual(source.num_examples, 101)
        self.assertLen(source.class_names, 11)

    def test_masks_that_cannot_be_read(self):
        save_image(self.root / "images" / "a.png", self.image)
        for mask, message in ((np.ones((6, 9)), "its mask of"), (self.image, "not RGB")):
            save_image(self.root / "labels" / "a.png", mask)
            with self.assertRaisesRegex(ValueError, message):
                open_masks(f"folder:{self.root}", "train")


if __name__ == "__main__":
    tf.test.main()
