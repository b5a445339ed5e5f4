import json
import pathlib
import shutil

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.annotations import WHOLE
from pixpro_keras.detection.datasets import is_flat, open_boxes
from tests.helpers.examples import write_coco, write_image, write_voc
from tests.helpers.shared_data import shared_path

_BOX = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0, "area": 200.0}


class LayoutsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)

    def check_coco(self, split):
        source = open_boxes(f"coco:{self.root}", split)
        self.assertAllEqual(source.objects[0].boxes, [[1, 2, 11, 22]])
        self.assertEqual(
            tf.io.decode_image(source.read(tf.constant(1, tf.int64))).shape, (60, 40, 3)
        )

    def test_coco_by_roboflow(self):
        write_coco(self.root, [_BOX], split="valid")
        annotations = self.root / "annotations"
        (annotations / "instances_valid.json").rename(
            self.root / "valid" / "_annotations.coco.json"
        )
        annotations.rmdir()
        self.check_coco("valid")

    @parameterized.parameters("images", "images/default")
    def test_coco_by_cvat(self, folder):
        write_coco(self.root, [_BOX], split="default")
        (self.root / folder).parent.mkdir(exist_ok=True)
        (self.root / "default").rename(self.root / folder)
        self.check_coco("default")

    def test_voc_by_cvat(self):
        source = shared_path("data", "voc_bccd", "VOC2007")
        names = (source / "ImageSets" / "Main" / "val.txt").read_text().split()[:2]
        for folder, ending in (("Annotations", "xml"), ("JPEGImages", "jpg")):
            (self.root / folder).mkdir()
            for name in names:
                shutil.copy(source / folder / f"{name}.{ending}", self.root / folder)
        (self.root / "ImageSets" / "Main").mkdir(parents=True)
        (self.root / "ImageSets" / "Main" / "default.txt").write_text("\n".join(names))
        classes = shared_path("data", "voc_bccd", "classes.txt").read_text().split()
        lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
        lines += [f"{name}:128,0,{number}::" for number, name in enumerate(classes)]
        (self.root / "labelmap.txt").write_text("\n".join(lines))
        found = open_boxes(f"voc:{self.root}", "default")
        self.assertEqual(found.class_names, tuple(classes))
        self.assertLen(found.objects, 2)
        self.assertGreater(len(found.objects[0].boxes), 0)

    @parameterized.parameters(
        ("data.yaml", "names: [cat]", "data.yaml belongs to a YOLO export: export it as COCO"),
        ("annotations.xml", "<annotations/>", "CVAT's own format: export it as COCO 1.0"),
        ("a.json", json.dumps({"shapes": [], "imagePath": "a.jpg"}), "labelme2coco.py"),
        (
            "train/a.xml",
            "<annotation/>",
            "side by side, as Roboflow writes them: export it as COCO",
        ),
    )
    def test_others_are_named_with_their_conversion(self, file, content, message):
        write_image(self.root / "train" / "a.jpg")
        (self.root / file).write_text(content)
        for kind in ("coco", "voc"):
            with self.assertRaisesRegex(ValueError, f"there is no .*{message}"):
                open_boxes(f"{kind}:{self.root}", "train")

    @parameterized.parameters(
        ("boxes.json", "."),
        ("boxes.json", "images"),
        ("annotations/instances_default.json", "images"),
        ("annotations/instances_all.json", "all"),
        ("_annotations.coco.json", "."),
    )
    def test_coco_without_splits(self, file, folder):
        write_coco(self.root / "coco", [_BOX], split="x")
        (self.root / file).parent.mkdir(exist_ok=True)
        (self.root / "coco" / "annotations" / "instances_x.json").rename(self.root / file)
        for image in (self.root / "coco" / "x").iterdir():
            (self.root / folder).mkdir(exist_ok=True)
            image.rename(self.root / folder / image.name)
        shutil.rmtree(self.root / "coco")
        self.assertTrue(is_flat(f"coco:{self.root}", "train2017", "val2017"))
        self.check_coco(WHOLE)

    @parameterized.parameters(
        ("Annotations", "JPEGImages"), ("Annotations", "images"), (".", "."), (".", "images")
    )
    def test_voc_without_splits(self, annotations, images):
        write_voc(self.root, [[("cat", 0, 2, 3, 11, 22)], [("dog", 0, 5, 6, 21, 32)]])
        for old, new in (("Annotations", annotations), ("JPEGImages", images)):
            (self.root / new).mkdir(exist_ok=True)
            for file in (self.root / "VOC2007" / old).iterdir():
                file.rename(self.root / new / file.name)
        self.assertFalse(is_flat(f"voc:{self.root}"))
        shutil.rmtree(self.root / "VOC2007")
        (self.root / "VOC2007.tar").touch()  # Not a folder of a year.
        self.assertTrue(is_flat(f"voc:{self.root}"))
        source = open_boxes(f"voc:{self.root}", WHOLE)
        self.assertEqual([len(one.boxes) for one in source.objects], [1, 1])
        self.assertEqual(source.image_ids, ["2007_000000", "2007_000001"])
        self.assertAllEqual(source.objects[0].boxes, [[1, 2, 11, 22]])
        self.assertEqual(source.notes.counts, {})
        (self.root / images / "other.png").write_bytes(b"")
        kind = "images in the folder without an annotation, left out"
        self.assertEqual(open_boxes(f"voc:{self.root}", WHOLE).notes.counts, {kind: 1})

    def test_what_has_splits_or_is_another_layout_is_not_flat(self):
        write_coco(self.root, [_BOX], split="val2017")
        self.assertFalse(is_flat(f"coco:{self.root}", "train2017", "val2017"))
        self.assertTrue(is_flat(f"coco:{self.root}", "train", "val"))
        (self.root / "annotations" / "captions_val2017.json").write_text("{}")
        self.assertFalse(is_flat(f"coco:{self.root}", "train", "val"))
        labelme = self.root / "labelme"
        labelme.mkdir()
        (labelme / "a.json").write_text(json.dumps({"shapes": [], "imagePath": "a.jpg"}))
        (labelme / "annotations.xml").write_text("<annotations/>")
        for kind in ("coco", "voc"):
            self.assertFalse(is_flat(f"{kind}:{labelme}", "train", "val"))


if __name__ == "__main__":
    tf.test.main()
