import io
import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from pixpro_keras.data.broken_images import WrongValueError, read_error
from pixpro_keras.data.decoding import decode
from pixpro_keras.data.scenes import scenes_dataset
from pixpro_keras.segmentation import mask_datasets
from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_pipeline import readable_batches
from tests.helpers.examples import read_masks, save_image


class TinyMasks(tfds.core.GeneratorBasedBuilder):
    """Photographs of 60 x 40 pixels with an EXIF orientation, and masks of these sizes."""

    VERSION = tfds.core.Version("1.0.0")
    masks = (np.ones((40, 60, 1)),)
    orientations = (1,)

    def _info(self):
        image = tfds.features.Image(encoding_format="jpeg")
        mask = self.masks[0]
        mask = tfds.features.Image(shape=(None, None, mask.shape[-1]), dtype=mask.dtype)
        features = {"image": image, "segmentation_mask": mask}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, (mask, one) in enumerate(zip(self.masks, self.orientations, strict=True)):
            exif, file = Image.Exif(), io.BytesIO()
            exif[0x0112] = one
            Image.new("RGB", (60, 40)).save(file, "jpeg", exif=exif)
            content = io.BytesIO(file.getvalue()) if one else io.BytesIO(b"no image")
            yield number, {"image": content, "segmentation_mask": mask}


class OpenMasksTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)
        self.image = np.random.default_rng(0).integers(0, 255, (6, 8, 3))

    def test_scenes_and_tfds_are_the_same(self):
        one, two = open_masks("scenes", "validation"), open_masks("tfds:scenes", "validation[3:5]")
        self.assertEqual(one.class_names, two.class_names)
        self.assertEqual((one.class_names[0], len(one.class_names)), ("background", 11))
        self.assertEqual((one.num_examples, two.num_examples), (600, 2))
        image, mask = read_masks(two)[0]
        encoded = {"image": tfds.decode.SkipDecoding()}
        expected = scenes_dataset.builder().as_dataset("validation[3:4]", decoders=encoded)
        expected = next(iter(expected))
        self.assertAllEqual(image, decode(expected["image"]))
        self.assertAllEqual(mask, expected["segmentation_mask"][..., 0])

    def open_tiny(self, masks, orientations=(1,)):
        with mock.patch.multiple(TinyMasks, masks=masks, orientations=orientations):
            builder = TinyMasks(data_dir=self.create_tempdir().full_path)
            builder.download_and_prepare()
        with mock.patch.object(mask_datasets, "prepare_tfds", return_value=builder):
            return open_masks("tfds:tiny_masks", "train")

    def test_a_mask_of_tfds_is_of_the_upright_image(self):
        stored, upright = np.ones((40, 60, 1), np.uint8), np.full((60, 40, 1), 2, np.uint8)
        upright[:9] = 255
        source = self.open_tiny([stored, upright, stored, stored], [1, 6, 6, 0])
        self.assertEqual(source.class_names, ("class 0", "class 1", "class 2"))
        readable = [i for i in range(4) if not read_error(source, i)]
        found = [source.read(tf.constant(i, tf.int64)) for i in readable]
        sizes = [(image.shape[:2], mask.shape, np.unique(mask).tolist()) for image, mask in found]
        expected = [((40, 60), (40, 60), [1]), ((60, 40), (60, 40), [2, 255])]
        self.assertCountEqual(sizes, expected)
        with self.assertRaisesRegex(
            WrongValueError,
            r"record \d: image and mask differ in size, .* 60 x 40 and 40 x 60 pixels$",
        ):
            list(readable_batches(source, lambda image: image))

    def test_masks_of_tfds_that_teach_nothing_are_refused(self):
        black_and_white = np.full((40, 60, 1), 255, np.uint8)
        black_and_white[:9] = 0
        colors, deep = np.ones((40, 60, 3), np.uint8), np.full((40, 60, 1), 256, np.uint16)
        for mask, message in (
            (black_and_white, "'tiny_masks': all masks hold one class or none beside 255"),
            (colors, "segmentation_mask must have one channel"),
            (deep, "a mask has the value 256"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                self.open_tiny([mask])

    def test_what_is_missing_is_named(self):
        save_image(self.root / "train" / "images" / "a.png", self.image)
        for spec, split, message in (
            ("folder:/nowhere", "train", "/nowhere"),
            (f"folder:{self.root}", "val", "'val'"),
            (f"folder:{self.root}", "train", "labels: the masks are expected there"),
            (f"voc:{self.root}", "train", "Segmentation/train.txt"),
            (f"coco:{self.root}", "train", "coco:"),
            ("scenes", "test", "no split 'test'"),
            ("tfds:mnist_without_such_a_name", "train", "mnist_without"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                open_masks(spec, split)


if __name__ == "__main__":
    tf.test.main()
