import os
import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.broken_images import read_error
from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_source import LabelValues
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
        content = source.content_fingerprint
        save_image(self.root / "train" / "labels" / "b.png", np.zeros((6, 8)), palette)
        other = open_masks(source.name, "train")
        self.assertEqual(other.fingerprint, source.fingerprint)
        self.assertNotEqual(other.content_fingerprint, content)
        save_image(self.root / "train" / "labels" / "b.png", mask, palette)
        self.assertEqual(open_masks(source.name, "train").content_fingerprint, content)
        for folder in ("images", "labels"):
            file = self.root / "train" / folder / "b.png"
            file.rename(file.with_stem("c"))
        self.assertNotEqual(open_masks(source.name, "train").fingerprint, source.fingerprint)

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
        mask = self.root / "gtFine" / "train" / "ulm" / f"{stem}_gtFine_labelIds.png"
        save_image(mask, ids)
        source = open_masks(f"cityscapes:{self.root}", "train")
        self.assertLen(source.class_names, 19)
        ((_, found),) = read_masks(source)
        self.assertAllEqual(found[0], [255, 0, 1, 2, 11, 255, 18, 16])
        # As in the test split, whose masks are not public.
        save_image(mask, np.full((6, 8), 3))
        with self.assertRaisesRegex(ValueError, f"no mask, such as {mask}, has a pixel of a class"):
            open_masks(f"cityscapes:{self.root}", "train")

    def test_camvid(self):
        source = open_masks(f"folder:{shared_path('data', 'camvid')}", "val")
        self.assertEqual(source.num_examples, 101)
        self.assertLen(source.class_names, 11)

    def write_pair(self, name, mask, image=None):
        stem = pathlib.Path(name).with_suffix("")
        save_image(self.root / "images" / name, self.image if image is None else image)
        save_image(self.root / "labels" / f"{stem}.png", mask)

    def write_masks(self, *values):
        for number, value in enumerate(values):
            self.write_pair(f"{number}.png", np.tile(value, (6, 4))[:, :8])

    def test_values_without_a_class_are_named(self):
        self.write_masks([0, 1], [0, 7])
        (self.root / "classes.txt").write_text("background\nthing\n")
        with self.assertRaisesRegex(
            ValueError, r"labels/1\.png has the value 7, .*classes\.txt has 2 names"
        ):
            open_masks(f"folder:{self.root}", "train")

    def test_values_without_a_class_are_named_when_they_are_met(self):
        self.write_masks([0, 1], [1, 0])
        (self.root / "classes.txt").write_text("background\nthing\n")
        source = open_masks(f"folder:{self.root}", "train")
        self.write_masks([0, 1], [2, 0])
        with self.assertRaisesRegex(tf.errors.InvalidArgumentError, r"1\.png has the value 2"):
            read_masks(source)

    @parameterized.parameters("", "background\nthing\n")
    def test_masks_in_black_and_white(self, names):
        self.write_masks([0, 255], [255, 0])
        if names:
            (self.root / "classes.txt").write_text(names)
        with self.assertRaisesRegex(ValueError, r"0\.png.*--label_map=0:0,255:1.*--ignore_value"):
            open_masks(f"folder:{self.root}", "train")
        values = LabelValues(None, {0: 0, 255: 1})
        source = open_masks(f"folder:{self.root}", "train", values=values)
        self.assertLen(source.class_names, 2)
        self.assertAllEqual(read_masks(source)[0][1][0], [0, 1, 0, 1, 0, 1, 0, 1])

    def test_another_value_is_ignored(self):
        self.write_masks([0, 1], [2, 1])
        source = open_masks(f"folder:{self.root}", "train", values=LabelValues(0))
        self.assertAllEqual(read_masks(source)[0][1][0, :2], [255, 1])

    @parameterized.parameters((0, 0), (None, -1))
    def test_255_is_no_class_if_it_is_not_ignored(self, ignored, shown):
        self.write_masks([0, 1], [2, 255])
        with self.assertRaisesRegex(
            ValueError, rf"1\.png has the value 255, which --ignore_value={shown} does not ignore"
        ):
            open_masks(f"folder:{self.root}", "train", values=LabelValues(ignored))

    def test_values_beside_the_map_are_refused(self):
        self.write_masks([0, 1], [0, 2])
        with self.assertRaisesRegex(
            ValueError, r"1\.png has the value 2.*gives classes to \[0, 1\]"
        ):
            open_masks(f"folder:{self.root}", "train", values=LabelValues(255, {0: 1, 1: 0}))

    def test_images_in_subfolders_and_hidden_ones(self):
        self.write_pair("a.png", np.ones((6, 8)))
        self.write_pair("deep/a.png", np.ones((6, 8)))
        save_image(self.root / "images" / ".ipynb_checkpoints" / "a.png", self.image)
        source = open_masks(f"folder:{self.root}", "train")
        names = [source.describe(index) for index in range(source.num_examples)]
        self.assertEqual(names, [str(self.root / "images" / x) for x in ("a.png", "deep/a.png")])

    def test_two_images_of_one_mask_are_refused(self):
        self.write_pair("a.png", np.ones((6, 8)))
        save_image(self.root / "images" / "a.jpg", self.image)
        with self.assertRaisesRegex(ValueError, r"a\.jpg and .*a\.png have the same name"):
            open_masks(f"folder:{self.root}", "train")

    def test_images_are_upright_as_their_masks(self):
        from PIL import Image

        exif = Image.Exif()
        exif[0x0112] = 6
        self.write_pair("a.png", np.ones((6, 8)))
        image = Image.fromarray(self.image.astype("uint8")).transpose(Image.Transpose.ROTATE_90)
        image.save(self.root / "images" / "a.png", exif=exif)
        ((found, _),) = read_masks(open_masks(f"folder:{self.root}", "train"))
        self.assertAllEqual(found, self.image)
        save_image(self.root / "labels" / "a.png", np.ones((8, 6)))
        with self.assertRaisesRegex(
            ValueError, r"a\.png, turned upright as its EXIF data say, has"
        ):
            open_masks(f"folder:{self.root}", "train")

    def test_broken_files_are_left_to_those_who_count_them(self):
        self.write_masks([0, 1], [1, 0], [0, 1])
        (self.root / "images" / "0.png").write_bytes(b"")
        file = self.root / "labels" / "1.png"
        file.write_bytes(file.read_bytes()[:-30])
        source = open_masks(f"folder:{self.root}", "train")
        errors = [read_error(source, index) for index in range(3)]
        self.assertEqual([bool(error) for error in errors], [True, True, False])

    def test_files_without_an_image_are_told(self):
        self.write_masks([0, 1], [1, 0])
        (self.root / "images" / "1.png").unlink()
        with self.assertLogs("absl", "WARNING") as logs:
            source = open_masks(f"folder:{self.root}", "train")
        self.assertEqual(source.num_examples, 1)
        self.assertIn("skipped 1 files without an image, such as", logs.output[0])
        self.assertIn("labels/1.png", logs.output[0])

    def test_the_folder_of_the_masks_is_named(self):
        save_image(self.root / "images" / "a.png", self.image)
        save_image(self.root / "annotations" / "a.png", np.ones((6, 8)))
        with self.assertRaisesRegex(ValueError, "no folder .*/labels: the masks are expected"):
            open_masks(f"folder:{self.root}", "train")

    def test_names_of_any_encoding_and_endings_in_upper_case(self):
        self.write_pair("a.png", np.eye(6, 8))
        for folder, ending in (("images", b".png"), ("labels", b".PNG")):
            file = self.root / folder / "a.png"
            os.rename(file, os.path.join(os.fsencode(self.root / folder), b"\xe4" + ending))
        ((found, _),) = read_masks(open_masks(f"folder:{self.root}", "train"))
        self.assertAllEqual(found, self.image)

    def write_voc(self, listing):
        self.write_pair("a.png", np.ones((6, 8)))
        (self.root / "images").rename(self.root / "JPEGImages")
        (self.root / "labels").rename(self.root / "SegmentationClass")
        file = self.root / "ImageSets" / "Segmentation" / "train.txt"
        file.parent.mkdir(parents=True)
        file.write_text(listing)

    def test_repeated_lines_of_a_list_are_told(self):
        self.write_voc("a\na\n")
        with self.assertLogs("absl", "WARNING") as logs:
            source = open_masks(f"voc:{self.root}", "train")
        self.assertEqual(source.num_examples, 1)
        self.assertIn("train.txt: 1 repeated lines, read once", logs.output[0])

    def test_names_of_a_list_that_cannot_be_right(self):
        self.write_voc("a.png\n")
        with self.assertRaisesRegex(ValueError, "the name 'a.png' in a list .* without its ending"):
            open_masks(f"voc:{self.root}", "train")
        (self.root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
        (self.root / "JPEGImages" / "a.png").unlink()
        with self.assertRaisesRegex(ValueError, "the image .*a.jpg is missing"):
            open_masks(f"voc:{self.root}", "train")

    def test_faults_that_are_read(self):
        source = open_masks(f"folder:{shared_path('faults', 'seg_nested')}", "train")
        self.assertEqual((source.num_examples, len(source.class_names)), (6, 3))
        source = open_masks(f"voc:{shared_path('faults', 'vocseg_own')}", "train")
        self.assertEqual(source.class_names[:2], ("background", "screw"))
        self.assertLen(source.class_names, 24)

    @parameterized.parameters(
        ("seg_binary255", r"train/labels/0\.png.*--label_map"),
        ("seg_fewnames", r"train/labels/0\.png has the value 2, .*classes\.txt has 2 names"),
    )
    def test_faults_that_are_refused(self, case, message):
        with self.assertRaisesRegex(ValueError, message):
            open_masks(f"folder:{shared_path('faults', case)}", "train")

    def test_masks_that_cannot_be_read(self):
        save_image(self.root / "images" / "a.png", self.image)
        for mask, message in ((np.ones((6, 9)), "its mask .* has"), (self.image, "not RGB")):
            save_image(self.root / "labels" / "a.png", mask)
            with self.assertRaisesRegex(ValueError, message):
                open_masks(f"folder:{self.root}", "train")
        jpeg = tf.io.encode_jpeg(np.ones((6, 8, 1), np.uint8)).numpy()
        (self.root / "labels" / "a.png").write_bytes(jpeg)
        with self.assertRaisesRegex(ValueError, r"labels/a\.png is a JPEG file, whatever its name"):
            open_masks(f"folder:{self.root}", "train")
        (self.root / "labels" / "a.png").write_bytes(b"")
        with self.assertRaisesRegex(ValueError, r"the mask .*a\.png cannot be read"):
            open_masks(f"folder:{self.root}", "train")


if __name__ == "__main__":
    tf.test.main()
