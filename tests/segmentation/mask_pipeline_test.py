import pathlib

import numpy as np
import tensorflow as tf

from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError, WrongValueError
from pixpro_keras.segmentation import mask_pipeline
from pixpro_keras.segmentation.mask_datasets import open_masks
from tests.helpers.examples import save_image


class MakeCropTest(tf.test.TestCase):
    def crop(self, number, size=24, scales=(0.5, 2.0)):
        # Red and green say the class, so that image and mask can be compared at every pixel.
        mask = np.zeros((30, 40), "int32")
        mask[10:, 12:] = 1
        image = np.stack([200 * mask, 200 * (1 - mask), 0 * mask], -1).astype("uint8")
        config = mask_pipeline.CropConfig(size, scales, use_xla=False)
        crop = mask_pipeline.make_crop(image, mask, tf.constant([number, 0]), config)
        return crop["image"].numpy(), crop["mask"].numpy()

    def test_image_and_mask_stay_together(self):
        flipped = set()
        for number in range(30):
            image, mask = self.crop(number)
            self.assertEqual((image.shape, mask.shape), ((24, 24, 3), (24, 24)))
            self.assertAllInSet(mask, [0, 1, 255])
            # Inside, where no neighbor is of another class.
            inner = tf.nn.max_pool2d(mask[None, ..., None].astype("f"), 3, 1, "SAME")[0, ..., 0]
            outer = -tf.nn.max_pool2d(-mask[None, ..., None].astype("f"), 3, 1, "SAME")[0, ..., 0]
            sure = (inner == outer).numpy() & (mask != 255)
            is_red = image[..., 0] > image[..., 1]
            colorful = np.ptp(image, axis=-1) > 20
            agree = (is_red == (mask == 1))[sure & colorful]
            self.assertGreater(agree.mean() if agree.size else 1, 0.95)
            rows = mask[(mask == 1).any(axis=1) & (mask == 0).any(axis=1)]
            if len(rows):
                ones = np.flatnonzero(rows[0] == 1).mean()
                flipped.add(bool(ones < np.flatnonzero(rows[0] == 0).mean()))
        self.assertEqual(flipped, {False, True})

    def test_what_is_beyond_the_image_does_not_count(self):
        _, mask = self.crop(0, size=64, scales=(0.5, 0.5))
        self.assertEqual((mask != 255).sum(), 15 * 20)

    def test_colors_stay_without_jitter(self):
        image, mask = np.full((30, 40, 3), [200, 100, 50], "uint8"), np.zeros((30, 40), "int32")
        for jitter, is_same in ((False, True), (True, False)):
            config = mask_pipeline.CropConfig(24, (1.0, 1.0), color_jitter=jitter, use_xla=False)
            crops = [
                mask_pipeline.make_crop(image, mask, tf.constant([number, 0]), config)["image"]
                for number in range(4)
            ]
            difference = np.abs(np.stack(crops) - image[0, 0]).max()
            self.assertEqual(difference < 1e-3, is_same)

    def test_the_same_seed_gives_the_same_crop(self):
        for one, two in zip(self.crop(3), self.crop(3), strict=True):
            self.assertAllEqual(one, two)


class ReadableBatchesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        for number in range(4):
            image, mask = np.full((6, 8, 3), 9 * number), np.full((6, 8), number % 2)
            save_image(self.folder / "images" / f"{number}.png", image)
            save_image(self.folder / "labels" / f"{number}.png", mask)
        self.source = open_masks(f"folder:{self.folder}", "val")

    def batches(self, *arguments):
        return list(mask_pipeline.readable_batches(self.source, lambda x: x, 2, *arguments))

    def test_a_broken_image_is_passed_over_and_named(self):
        file = self.folder / "images" / "1.png"
        file.write_bytes(file.read_bytes()[:-40])
        with self.assertLogs("absl", "WARNING") as logs:
            batches = self.batches()
        self.assertEqual(
            [images[:, 0, 0, 0].numpy().tolist() for images, _ in batches], [[0, 18], [27]]
        )
        self.assertIn("images/1.png", logs.output[0])
        with self.assertRaisesRegex(BrokenImagesError, r"1 of the 4 images.*images/1\.png"):
            self.batches(BrokenImages(self.source, 0.0))

    def crops(self, count):
        broken = BrokenImages(self.source, 0.5)
        data = mask_pipeline.make_crops(
            self.source,
            mask_pipeline.CropConfig(4, use_xla=False),
            global_batch_size=2,
            preprocess=lambda x: x,
            broken=broken,
        )
        return list(data.take(count)), broken

    def test_another_one_is_trained_on_in_its_place(self):
        (self.folder / "images" / "1.png").write_bytes(b"")
        batches, broken = self.crops(6)
        self.assertLen(batches, 6)
        self.assertEqual(list(broken.names), [1])
        broken.check()

    def test_training_on_a_value_without_a_class_ends(self):
        save_image(self.folder / "labels" / "3.png", np.full((6, 8), 5))
        _, broken = self.crops(6)
        with self.assertRaisesRegex(WrongValueError, r"labels/3\.png has the value 5, for which"):
            broken.check()

    def test_a_value_without_a_class_is_no_broken_image(self):
        save_image(self.folder / "labels" / "3.png", np.full((6, 8), 5))
        with self.assertRaisesRegex(ValueError, r"labels/3\.png has the value 5, for which"):
            self.batches()


if __name__ == "__main__":
    tf.test.main()
