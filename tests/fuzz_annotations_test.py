"""Annotation readers read arbitrary and damaged files or raise their own error."""

import json
import pathlib

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.datasets import open_boxes
from tests.fuzz_test import damage, damaged
from tests.helpers.examples import write_coco, write_voc

# What JSON may hold instead of what should be there.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(content, path=()):
    """Paths of all values in nested lists and dictionaries."""
    yield path
    if isinstance(content, (dict, list)):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(value, (*path, key))


def replaced(content, path, value):
    if not path:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[path[0]] = replaced(content[path[0]], path[1:], value)
    return copy


class FuzzAnnotationsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)
        polygon = [[1.0, 2.0, 11.0, 2.0, 11.0, 22.0]]
        rle = {"size": [60, 40], "counts": [400, 1200, 800]}
        text = instance_masks.to_rle(np.eye(60, 40, dtype=np.uint8))
        rows = ((7, polygon), (9, rle), (9, text | {"size": list(text["size"])}))
        annotations = [
            {"image_id": image, "category_id": 3, "bbox": [1, 2, 10, 20], "segmentation": form}
            for image, form in rows
        ]
        write_coco(self.root, annotations)
        write_voc(self.root, [[("cat", 0, 1, 1, 60, 40)]])
        self.json = self.root / "annotations" / "instances_train2017.json"
        self.xml = self.root / "VOC2007" / "Annotations" / "2007_000000.xml"
        self.whole = {file: file.read_bytes() for file in (self.json, self.xml)}

    def read(self, kind, split, name):
        try:
            source = open_boxes(f"{kind}:{self.root}", split)
        except ValueError as error:
            self.assertRegex(str(error), f"{name}|the image .* is missing|holds no image")
            return
        for size, one in zip(source.sizes, source.objects, strict=True):
            self.assertTrue(np.isfinite(one.boxes).all())
            for segmentation in one.segmentations or ():
                self.assertLessEqual(instance_masks.decode(segmentation, *map(int, size)).max(), 1)

    @given(st.data())
    def test_coco_with_another_value(self, data):
        content = json.loads(self.whole[self.json])
        path = data.draw(st.sampled_from(list(places(content))))
        self.json.write_text(json.dumps(replaced(content, path, data.draw(anything))))
        self.read("coco", "train2017", self.json.name)

    @given(damage)
    def test_damaged_coco(self, how):
        self.json.write_bytes(damaged(self.whole[self.json], how))
        self.read("coco", "train2017", self.json.name)

    @given(damage)
    def test_damaged_voc(self, how):
        self.xml.write_bytes(damaged(self.whole[self.xml], how))
        self.read("voc", "2007_trainval", self.xml.name)

    @given(st.text("0123456789PQRSTo", max_size=12) | st.lists(st.integers(-5, 3000), max_size=5))
    def test_masks_of_any_runs(self, counts):
        form = {"size": [60, 40], "counts": counts}
        try:
            instance_masks.clean(form, 60, 40)
        except ValueError:
            return
        self.assertLessEqual(instance_masks.decode(form, 60, 40).max(), 1)

    def test_an_entity_that_grows(self):
        levels = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
        self.xml.write_text(
            f'<!DOCTYPE annotation [<!ENTITY e0 "ha">{levels}]><annotation>&e9;</annotation>'
        )
        with self.assertRaisesRegex(ValueError, f"{self.xml.name}.*amplification"):
            open_boxes(f"voc:{self.root}", "2007_trainval")


if __name__ == "__main__":
    tf.test.main()
