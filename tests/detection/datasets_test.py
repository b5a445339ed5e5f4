import json
import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.box_source import VOC07, VOC12, for_training, make_objects
from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.shared_data import shared_path

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def write_image(path, height=40, width=60):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype("uint8")
    path.write_bytes(tf.io.encode_jpeg(image).numpy())


def write_voc(root, objects, year=2007, split="trainval", size=(40, 60)):
    """`objects`: of each image, tuples of name, difficult, and corners."""
    folder = root / f"VOC{year}"
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stems = [f"{year}_{number:06d}" for number in range(len(objects))]
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems))
    height, width = size
    for stem, found in zip(stems, objects, strict=True):
        write_image(folder / "JPEGImages" / f"{stem}.jpg", height, width)
        text = "".join(OBJECT.format(*one) for one in found)
        text = f"<size><width>{width}</width><height>{height}</height></size>{text}"
        (folder / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{text}</annotation>")


def write_coco(root, annotations, categories=((3, "cat"), (1, "dog")), split="train2017"):
    write_image(root / split / "a.jpg")
    write_image(root / split / "b.jpg", 60, 40)
    images = [
        {"id": 7, "file_name": "a.jpg", "height": 40, "width": 60},
        {"id": 9, "file_name": "b.jpg", "height": 60, "width": 40},
    ]
    content = {
        "images": images,
        "annotations": [one | {"id": n} for n, one in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


class OpenSourceTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)

    def test_voc(self):
        first = [("cat", 0, 1, 1, 60, 40), ("dog", 1, 11, 6, 30, 25)]
        write_voc(self.root, [first, [("dog", 1, 5, 5, 9, 9)], []])
        write_voc(self.root, [[("person", 0, 2, 3, 20, 30)]], year=2012)
        source = open_boxes(f"voc:{self.root}", "2007_trainval,2012_trainval")
        self.assertEqual(source.num_examples, 4)
        self.assertEqual(source.metric, VOC12)
        self.assertEqual(open_boxes(f"voc:{self.root}", "2007_trainval").metric, VOC07)
        objects = source.objects[0]
        # VOC counts from 1 and its last pixel is inside: the first box is the whole image.
        self.assertAllEqual(objects.boxes, [[0, 0, 60, 40], [10, 5, 30, 25]])
        self.assertEqual([source.class_names[n] for n in objects.classes], ["cat", "dog"])
        self.assertAllEqual(objects.is_ignored, [False, True])
        train = for_training(source, with_masks=False)
        self.assertEqual(train.image_ids, ["2007_000000", "2012_000000"])
        self.assertAllEqual(train.objects[0].boxes, [[0, 0, 60, 40]])
        self.assertIn("2012_000000.jpg", train.describe(1))
        self.assertEqual(train.read(tf.constant(1)), source.read(tf.constant(3)))

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

    @parameterized.parameters(
        ([("cat", 0, 1, 1, 70, 40)], "is outside.*0, 0, 70, 40"),
        ([("cat", 0, 30, 1, 20, 40)], "wrong way round"),
        ([("unicorn", 0, 1, 1, 20, 40)], "the class 'unicorn' is none of"),
    )
    def test_wrong_objects(self, objects, message):
        write_voc(self.root, [objects])
        with self.assertRaisesRegex(ValueError, f"2007_000000.xml.*{message}"):
            open_boxes(f"voc:{self.root}", "2007_trainval")

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

    def test_small_excess_is_cut_off(self):
        objects = make_objects("image", (40, 60), [[-1, 0, 61, 40.5]], [0], [False])
        self.assertAllEqual(objects.boxes, [[0, 0, 60, 40]])

    def test_real_data(self):
        source = open_boxes(f"voc:{shared_path('data', 'voc_bccd')}", "2007_train")
        self.assertEqual(source.num_examples, 205)
        self.assertEqual(source.class_names, ("RBC", "WBC", "Platelets"))
        source = open_boxes(f"coco:{shared_path('data', 'coco_pennfudan')}", "val2017")
        self.assertEqual(source.num_examples, 30)
        self.assertTrue(source.has_masks)


if __name__ == "__main__":
    tf.test.main()
