import io
import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from pixpro_keras.data.broken_images import BrokenImagesError
from pixpro_keras.detection import datasets
from pixpro_keras.detection.box_pipeline import count_broken, decode_image
from pixpro_keras.detection.box_source import for_training
from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.examples import write_coco, write_voc
from tests.helpers.shared_data import shared_path


class TinyCells(tfds.core.GeneratorBasedBuilder):
    """PNG images of which the second has an object; nothing tells crowds."""

    VERSION = tfds.core.Version("1.0.0")
    box = "bbox"
    image = None  # or encoded
    label = "white"
    names = ("red", "white")

    def _info(self):
        label = tfds.features.Scalar(np.int64)
        if self.names:
            label = tfds.features.ClassLabel(names=self.names)
        objects = {self.box: tfds.features.BBoxFeature(), "label": label}
        image = tfds.features.Image(encoding_format="png")
        features = {"image": image, "objects": tfds.features.Sequence(objects)}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        cell = {self.box: tfds.features.BBox(0.1, 0.2, 0.5, 0.6), "label": self.label}
        for number in range(2):
            image = (
                np.zeros((40, 60, 3), np.uint8) if self.image is None else io.BytesIO(self.image)
            )
            yield number, {"image": image, "objects": [cell] * number}


class OpenBoxesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)

    def test_what_is_missing(self):
        write_voc(self.root, [[]])
        with self.assertRaisesRegex(ValueError, "no image with a box"):
            for_training(open_boxes(f"voc:{self.root}", "2007_trainval"), with_masks=False)
        (self.root / "VOC2007/Annotations/2007_000000.xml").unlink()
        with self.assertRaisesRegex(ValueError, "annotation .*xml is missing"):
            open_boxes(f"voc:{self.root}", "2007_trainval")
        annotation = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20]}
        write_coco(self.root, [annotation])
        with self.assertRaisesRegex(ValueError, "a.jpg has no masks"):
            for_training(open_boxes(f"coco:{self.root}", "train2017"), with_masks=True)
        write_coco(self.root, [annotation | {"category_id": 2}])
        with self.assertRaisesRegex(ValueError, "category 2 is not in the list"):
            open_boxes(f"coco:{self.root}", "train2017")
        for spec, split in (
            (f"voc:{self.root}", "2008_train"),
            (f"coco:{self.root}", "val2017"),
            ("voc:/nowhere", "2007_train"),
            ("photos", "train"),
        ):
            with self.assertRaises(ValueError):
                open_boxes(spec, split)

    def open_cells(self, box="bbox", **attributes):
        with mock.patch.multiple(TinyCells, box=box, **attributes):
            builder = TinyCells(data_dir=self.root)
            builder.download_and_prepare()
        with mock.patch.object(datasets, "prepare_tfds", return_value=builder):
            return open_boxes("tfds:tiny_cells", "train")

    def test_tfds_of_any_image_format_without_crowds(self):
        source = self.open_cells()
        self.assertAllEqual(source.sizes, [(40, 60)] * 2)
        self.assertEqual(source.class_names, ("red", "white"))
        self.assertAllClose(source.objects[1].boxes, [[12, 4, 36, 20]])
        self.assertAllEqual(source.objects[1].is_ignored, [False])
        self.assertEqual(for_training(source, with_masks=False).num_examples, 1)

    def test_boxes_of_tfds_belong_to_the_upright_image(self):
        for orientation, size in ((3, (40, 60)), (6, (60, 40))):
            exif, file = Image.Exif(), io.BytesIO()
            exif[0x0112] = orientation
            Image.new("RGB", (60, 40)).save(file, "png", exif=exif)
            self.root = pathlib.Path(self.create_tempdir().full_path)
            source = self.open_cells(image=file.getvalue())
            self.assertAllEqual(source.sizes, [size] * 2)
            height, width = size
            expected = np.array([0.2 * width, 0.1 * height, 0.6 * width, 0.5 * height])
            self.assertAllClose(source.objects[1].boxes, [expected])
            self.assertEqual(decode_image(source, tf.constant(1, tf.int64)).shape, (*size, 3))
            self.assertRegex(
                str(source.notes), r"^images with an EXIF orientation, .*: 1 \(.* 1\)$"
            )

    def test_a_broken_image_of_tfds_counts_when_it_is_read(self):
        source = self.open_cells(image=b"no image")
        self.assertAllClose(source.objects[1].boxes / 1000, [[0.2, 0.1, 0.6, 0.5]])
        broken = count_broken(source, 0.1)
        broken.report(1, is_last=False)
        broken.check()  # A single one is allowed.
        broken.report(0, is_last=False)
        with self.assertRaisesRegex(BrokenImagesError, "2 of the 2 .*tfrecord.* record 1"):
            broken.check()

    def test_tfds_without_boxes(self):
        with self.assertRaisesRegex(ValueError, "'tiny_cells' has no `objects` with `bbox` and"):
            self.open_cells("place")

    def test_objects_of_tfds_without_a_class(self):
        with self.assertRaisesRegex(ValueError, r"tfrecord\S* record 1: an object has no class"):
            self.open_cells(label=-1)
        self.root = pathlib.Path(self.create_tempdir().full_path)
        with self.assertRaisesRegex(
            ValueError, "'tiny_cells': the labels of its objects have no na"
        ):
            self.open_cells(label=1, names=())

    def test_real_data(self):
        source = open_boxes(f"voc:{shared_path('data', 'voc_bccd')}", "2007_train")
        self.assertEqual(source.num_examples, 205)
        self.assertEqual(source.class_names, ("RBC", "WBC", "Platelets"))
        source = open_boxes(f"coco:{shared_path('data', 'coco_pennfudan')}", "val2017")
        self.assertEqual(source.num_examples, 30)
        self.assertTrue(source.has_masks)


if __name__ == "__main__":
    tf.test.main()
