import json
import pathlib
import shutil

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.examples import write_coco, write_image
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
        ("data.yaml", "names: [cat]", "data.yaml is of a YOLO export: export it as COCO"),
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


if __name__ == "__main__":
    tf.test.main()
