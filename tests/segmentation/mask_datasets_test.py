import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pixpro_keras.data.decoding import decode
from pixpro_keras.data.scenes import scenes_dataset
from pixpro_keras.segmentation.mask_datasets import open_masks
from tests.helpers.examples import read_masks, save_image


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
