import pathlib

import tensorflow as tf

from pixpro_keras.detection.box_source import for_training
from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.examples import write_coco, write_voc
from tests.helpers.shared_data import shared_path


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
        with self.assertRaisesRegex(ValueError, "category 2, which is not in the list"):
            open_boxes(f"coco:{self.root}", "train2017")
        for spec, split in (
            (f"voc:{self.root}", "2008_train"),
            (f"coco:{self.root}", "val2017"),
            ("voc:/nowhere", "2007_train"),
            ("photos", "train"),
        ):
            with self.assertRaises(ValueError):
                open_boxes(spec, split)

    def test_real_data(self):
        source = open_boxes(f"voc:{shared_path('data', 'voc_bccd')}", "2007_train")
        self.assertEqual(source.num_examples, 205)
        self.assertEqual(source.class_names, ("RBC", "WBC", "Platelets"))
        source = open_boxes(f"coco:{shared_path('data', 'coco_pennfudan')}", "val2017")
        self.assertEqual(source.num_examples, 30)
        self.assertTrue(source.has_masks)


if __name__ == "__main__":
    tf.test.main()
