import pathlib

import tensorflow as tf

from pixpro_keras.detection.box_source import for_training
from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.examples import write_coco


class COCOTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)

    def test_coco(self):
        rle = {"size": [60, 40], "counts": [0, 2400]}
        annotations = [
            {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0, "area": 99.0},
            {"image_id": 9, "category_id": 1, "bbox": [0, 0, 40, 60], "iscrowd": 1},
            {"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 5], "iscrowd": 0, "area": 1.0},
        ]
        polygon = [[1, 2, 11, 2, 11, 22, 1, 22]]
        for one, form in zip(annotations, (polygon, rle, polygon), strict=True):
            one["segmentation"] = form
        write_coco(self.root, annotations)
        source = open_boxes(f"coco:{self.root}", "train2017")
        self.assertEqual(source.class_names, ("dog", "cat"))
        self.assertEqual(list(source.class_ids), [1, 3])
        self.assertEqual(list(source.image_ids), [7, 9])
        self.assertAllEqual(source.objects[0].boxes[0], [1, 2, 11, 22])
        self.assertAllEqual(source.objects[0].classes, [1, 0])
        self.assertAllClose(source.objects[0].areas, [99.0, 1.0])
        self.assertAllEqual(source.objects[1].is_ignored, [True])
        self.assertTrue(source.has_masks)
        train = for_training(source, with_masks=True)  # no crowd, no box without area
        self.assertLen(train.objects, 1)
        self.assertAllEqual(train.objects[0].boxes, [[1, 2, 11, 22]])
        self.assertLen(train.objects[0].segmentations, 1)


if __name__ == "__main__":
    tf.test.main()
