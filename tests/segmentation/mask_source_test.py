import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.scenes import scenes_dataset
from pixpro_keras.segmentation import mask_pipeline
from pixpro_keras.segmentation.mask_source import open_masks, resized
from tests.helpers.shared_data import shared_path


def save(path, array, palette=False):
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, "uint8"))
    if palette:
        image = image.convert("P")
        image.putdata(np.asarray(array).ravel().tolist())
        image.putpalette([255 - value for value in range(256) for _ in range(3)])
    image.save(path)


def read_all(source):
    data = tf.data.Dataset.range(source.num_examples).map(source.read)
    return [(image.numpy(), mask.numpy()) for image, mask in data]


class OpenMasksTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)
        self.image = np.random.default_rng(0).integers(0, 255, (6, 8, 3))

    @parameterized.parameters(False, True)
    def test_folder(self, palette):
        mask = np.arange(48).reshape(6, 8) % 4
        mask[0, 0] = 255
        for name in ("a", "b"):
            save(self.root / "train" / "images" / f"{name}.png", self.image)
            save(self.root / "train" / "labels" / f"{name}.png", mask, palette)
        source = open_masks(f"folder:{self.root}", "train")
        self.assertEqual(source.class_names, ("class 0", "class 1", "class 2", "class 3"))
        for found_image, found_mask in read_all(source):
            self.assertAllEqual(found_image, self.image)
            self.assertAllEqual(found_mask, mask)

    def test_folder_without_splits(self):
        save(self.root / "images" / "a.png", self.image)
        save(self.root / "labels" / "a.png", np.ones((6, 8)))
        ((_, mask),) = read_all(open_masks(f"folder:{self.root}", "val"))
        self.assertAllEqual(mask, np.ones((6, 8)))

    def test_scenes_and_tfds_are_the_same(self):
        one, two = open_masks("scenes", "validation"), open_masks("tfds:scenes", "validation[3:5]")
        self.assertEqual(one.class_names, two.class_names)
        self.assertEqual((one.class_names[0], len(one.class_names)), ("background", 11))
        self.assertEqual((one.num_examples, two.num_examples), (600, 2))
        image, mask = read_all(two)[0]
        expected = next(iter(scenes_dataset.builder().as_dataset("validation[3:4]")))
        self.assertAllEqual(image, expected["image"])
        self.assertAllEqual(mask, expected["segmentation_mask"][..., 0])

    def test_resized_masks_hold_no_new_class(self):
        mask = 3 * (np.arange(48).reshape(6, 8) % 2)
        save(self.root / "images" / "a.png", self.image)
        save(self.root / "labels" / "a.png", mask)
        ((image, found),) = read_all(resized(open_masks(f"folder:{self.root}", "x"), (9, 4)))
        self.assertEqual((image.shape, image.dtype), ((9, 4, 3), np.uint8))
        rows, columns = (np.arange(9) * 2 + 1) * 6 // 18, (np.arange(4) * 2 + 1) * 8 // 8
        self.assertAllEqual(found, mask[rows][:, columns])

    def test_voc(self):
        for name in ("x", "y"):
            save(self.root / "JPEGImages" / f"{name}.jpg", self.image)
            save(self.root / "SegmentationClass" / f"{name}.png", np.full((6, 8), 20), True)
        listing = self.root / "ImageSets" / "Segmentation" / "val.txt"
        listing.parent.mkdir(parents=True)
        listing.write_text("y\n")
        source = open_masks(f"voc:{self.root}", "val")
        self.assertLen(source.class_names, 21)
        ((_, mask),) = read_all(source)
        self.assertAllEqual(mask, np.full((6, 8), 20))

    def test_cityscapes_numbers(self):
        stem = "ulm_000000_000019"
        save(self.root / "leftImg8bit" / "train" / "ulm" / f"{stem}_leftImg8bit.png", self.image)
        ids = np.tile([0, 7, 8, 11, 24, 29, 33, 31], (6, 1))
        save(self.root / "gtFine" / "train" / "ulm" / f"{stem}_gtFine_labelIds.png", ids)
        source = open_masks(f"cityscapes:{self.root}", "train")
        self.assertLen(source.class_names, 19)
        ((_, mask),) = read_all(source)
        self.assertAllEqual(mask[0], [255, 0, 1, 2, 11, 255, 18, 16])

    def test_camvid(self):
        source = open_masks(f"folder:{shared_path('data', 'camvid')}", "val")
        self.assertEqual(source.num_examples, 101)
        self.assertLen(source.class_names, 11)

    def test_what_is_missing_is_named(self):
        save(self.root / "train" / "images" / "a.png", self.image)
        for spec, split, message in (
            ("folder:/nowhere", "train", "/nowhere"),
            (f"folder:{self.root}", "val", "'val'"),
            (f"folder:{self.root}", "train", "labels/a.png is missing"),
            (f"voc:{self.root}", "train", "Segmentation/train.txt"),
            (f"coco:{self.root}", "train", "coco:"),
            ("scenes", "test", "no split 'test'"),
            ("tfds:mnist_without_such_a_name", "train", "mnist_without"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                open_masks(spec, split)

    def test_masks_that_cannot_be_read(self):
        save(self.root / "images" / "a.png", self.image)
        for mask, message in ((np.ones((6, 9)), "its mask of"), (self.image, "not RGB")):
            save(self.root / "labels" / "a.png", mask)
            with self.assertRaisesRegex(ValueError, message):
                open_masks(f"folder:{self.root}", "train")


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
            # Inside, where no neighbour is of another class.
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

    def test_the_same_seed_gives_the_same_crop(self):
        for one, two in zip(self.crop(3), self.crop(3), strict=True):
            self.assertAllEqual(one, two)


if __name__ == "__main__":
    tf.test.main()
