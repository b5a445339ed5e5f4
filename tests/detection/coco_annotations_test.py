import json
import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.box_source import for_testing, for_training
from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.examples import write_coco
from tests.helpers.shared_data import shared_path

_BOX = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0, "area": 200.0}
_POLYGON = [1, 2, 11, 2, 11, 22, 1, 22]
_NO_MASK = "objects without a mask, left out"
_SHORT = "polygons of fewer than three points, left out"
_FLAT = "polygons that are not in a list of polygons, read as its only one"


class COCOTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)

    def open(self, *annotations, change=None, **arguments):
        """Opens a set of these annotations, whose content a function may have changed."""
        write_coco(self.root, [_BOX | one for one in annotations])
        file = self.root / "annotations" / "instances_train2017.json"
        if change:
            content = json.loads(file.read_text())
            change(content)
            file.write_text(json.dumps(content))
        return open_boxes(f"coco:{self.root}", "train2017", **arguments)

    def refused(self, message, *annotations, **arguments):
        with self.assertRaisesRegex(ValueError, f"instances_train2017.json: .*{message}"):
            self.open(*annotations, **arguments)

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

    def test_other_masks_or_files_are_other_contents(self):
        moved = [x + 1 for x in _POLYGON]
        found = [self.open({"segmentation": [one]}) for one in (_POLYGON, moved, _POLYGON)]
        image = next((self.root / "train2017").iterdir())
        image.write_bytes(image.read_bytes() + b"more")
        found.append(open_boxes(f"coco:{self.root}", "train2017"))
        self.assertLen({source.fingerprint for source in found}, 1)
        contents = [source.content_fingerprint for source in found]
        self.assertEqual(contents[2], contents[0])
        self.assertLen({*contents}, 3)

    @parameterized.parameters(0, 1, "0", "1", 0.0, 1.0, False, True)
    def test_crowds_are_0_or_1_of_any_type(self, value):
        source = self.open({"iscrowd": value})
        self.assertAllEqual(source.objects[0].is_ignored, [value in (1, "1")])

    @parameterized.parameters(
        ({"iscrowd": "no"}, "iscrowd must be 0 or 1. Received: 'no'"),
        ({"iscrowd": 2}, "iscrowd must be 0 or 1. Received: 2"),
        ({"iscrowd": None}, "iscrowd must be 0 or 1. Received: None"),
        ({"bbox": ["1", 2, 10, 20]}, "bbox must be four numbers. Received: \\['1', 2"),
        ({"bbox": [1, 2, 10]}, "bbox must be four numbers"),
        ({"bbox": None}, "bbox must be four numbers. Received: None"),
        ({"bbox": [True, 2, 10, 20]}, "bbox must be four numbers"),
        ({"area": "200"}, "area must be a number from 0 on. Received: '200'"),
        ({"area": -1}, "area must be a number from 0 on. Received: -1"),
        ({"category_id": "3"}, "category '3' is not in the list"),
        ({"category_id": [3]}, "unhashable"),
        ({"image_id": [7]}, "unhashable"),
        ({"bbox": [1, 2, -10, 20]}, "corners in wrong order"),
        ({"bbox": [1, 2, float("nan"), 20]}, "is outside of all images"),
        ({"segmentation": "mask"}, "must be a list of polygons, or RLE"),
        ({"segmentation": [["1"] * 8]}, "a polygon must be a list of three or more pairs"),
        ({"segmentation": [_POLYGON[:7]]}, "pairs of numbers. Received: 7 numbers"),
        ({"segmentation": [_POLYGON, 5]}, "pairs of numbers. Received: 5"),
        ({"segmentation": [[900] * 8]}, "far outside"),
        ({"segmentation": {"size": [60, 40], "counts": [0, 2400]}}, "has the size \\[60, 40\\]"),
    )
    def test_wrong_values_name_the_annotation(self, wrong, message):
        self.refused(f"annotation 1\\b.*{message}", {}, wrong)

    @parameterized.parameters(
        ("images", {"height": "40"}, "image 7: height must be a positive whole number.*'40'"),
        ("images", {"width": 0}, "image 7: width must be .*Received: 0"),
        ("images", {"file_name": 5}, "image 7: file_name must be a text. Received: 5"),
        ("images", {"id": None}, "image number 1 of the list: id must be"),
        ("images", {"id": 9}, "image 9: a.jpg and b.jpg have this id"),
        ("categories", {"id": "3"}, "category 3: id must be a whole number. Received: '3'"),
        ("categories", {"name": None}, "category 3: name must be a text. Received: None"),
        ("categories", {"id": 1}, "category 1: the names 'cat' and 'dog' have the same id"),
    )
    def test_wrong_entries_are_named(self, part, wrong, message):
        self.refused(message, {}, change=lambda content: content[part][0].update(wrong))

    def test_fields_that_are_missing_are_named(self):
        self.refused(
            "annotation 0: there is no 'bbox'",
            {},
            change=lambda content: content["annotations"][0].pop("bbox"),
        )
        self.refused(
            "annotation number 1 of the list has an invalid structure",
            {},
            change=lambda content: content.update(annotations=[5]),
        )

    def test_what_is_odd_is_counted(self):
        def change(content):
            content["annotations"][2]["id"] = 0
            content["images"].append(content["images"][0])
            content["categories"].append(content["categories"][1])

        source = self.open({}, {"area": None}, {}, {"image_id": 8}, change=change)
        self.assertLen(source.objects[0].boxes, 3)
        self.assertAllClose(source.objects[0].areas, [200.0] * 3)
        self.assertEqual(source.num_examples, 2)
        self.assertEqual(
            source.notes.counts,
            {
                "categories that are there twice, read once": 1,
                "images that are in the list twice, read once": 1,
                "annotations without an area, which get their box's": 1,
                "annotations with the id of another one, read anyway": 1,
                "annotations of unknown images, left out": 1,
            },
        )
        with self.assertLogs(level="WARNING") as logs:
            for_training(source, with_masks=False)
        self.assertLen(logs.output, 1)
        self.assertIn("annotations of unknown images, left out: 1 (annotation 3)", logs.output[0])

    def test_images_beside_the_list_are_counted(self):
        self.open({})
        folder = self.root / "train2017"
        (folder / "another.jpg").write_bytes(b"")
        source = self.open({})
        kind = "images in the folder that the list does not have, left out"
        self.assertEqual(source.notes.counts, {kind: 1})

    def test_a_folder_is_no_image(self):
        def change(content):
            content["images"][0]["file_name"] = ""

        self.refused("the image .*train2017 is missing", {}, change=change)

    def test_annotations_of_unknown_images_alone_are_refused(self):
        self.refused("annotation 0 has the image_id '7'.* has the id 7", {"image_id": "7"})

    @parameterized.parameters(
        (([_POLYGON, [5, 5, 6, 6]],), [1], {_SHORT: 1}),
        (([[5, 5, 6, 6], []], [_POLYGON]), [0, 1], {_SHORT: 2, _NO_MASK: 1}),
        ((_POLYGON,), [1], {_FLAT: 1}),
        ((_POLYGON[:4], [_POLYGON]), [0, 1], {_FLAT: 1, _SHORT: 1, _NO_MASK: 1}),
        (([], [_POLYGON]), [0, 1], {_NO_MASK: 1}),
        ((None, [_POLYGON]), [0, 1], {_NO_MASK: 1}),
        (({"size": [40, 60], "counts": [2400]}, [_POLYGON]), [0, 1], {_NO_MASK: 1}),
    )
    def test_masks_that_cannot_be_drawn_are_left_out(self, masks, numbers, counts):
        source = self.open(*({"segmentation": one} for one in masks))
        self.assertEqual([len(one) for one in source.objects[0].segmentations], numbers)
        train = for_training(source, with_masks=True)
        self.assertLen(train.objects[0].boxes, sum(numbers))
        empty = {"images without a box for training, left out": 1}  # b.jpg
        self.assertEqual(train.notes.counts, counts | empty)
        # Without masks, the boxes stay.
        self.assertLen(for_training(source, with_masks=False).objects[0].boxes, len(masks))
        self.assertLen(for_testing(source, with_masks=True).objects[0].boxes, len(masks))

    @parameterized.parameters([[55, 5, 20, 20]], [[61, 5, 1, 5]], [[-30, 5, 31, 20]])
    def test_boxes_outside_are_cut_off_only_if_asked_for(self, box):
        self.refused("the box of annotation 1 is outside.*--clip_boxes", {}, {"bbox": box})
        source = self.open({}, {"bbox": box}, clip_boxes=True)
        boxes = source.objects[0].boxes
        self.assertAllInRange(boxes, 0, 60)
        is_left = box[0] < 60
        self.assertLen(boxes, 1 + is_left)
        kind = "boxes cut off at the border" if is_left else "boxes outside, left out"
        self.assertEqual(source.notes.counts, {kind: 1})

    def test_shares_instead_of_pixels_are_refused(self):
        shares = {"bbox": [0.1, 0.2, 0.5, 0.3]}
        self.refused("annotation 1 is 0.1, 0.2.*shares of the image", {}, shares, shares)
        # A single tiny box is none.
        source = self.open({}, {}, shares)
        self.assertEqual(source.notes.counts, {"boxes within an image's first pixel": 1})

    def test_another_size_than_the_image_is_refused_by_its_name(self):
        def change(content):
            content["images"][1].update(height=40, width=60)

        self.refused("b.jpg is 40 pixels wide and 60 high, but 60 .*exchanged", {}, change=change)

    def test_a_byte_order_mark_is_no_part_of_the_text(self):
        self.open({})
        file = self.root / "annotations" / "instances_train2017.json"
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        self.assertEqual(open_boxes(f"coco:{self.root}", "train2017").num_examples, 2)


class FaultsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("coco_ok", 0, {}),
        ("coco_segempty_one", 1, {_NO_MASK: 1}),
        ("coco_val_segempty", 0, {}),
        ("coco_polyflat", 0, {_FLAT: 1}),
        ("coco_poly4", 1, {_SHORT: 1, _NO_MASK: 1}),
        ("coco_iscrowd_str0", 0, {}),
    )
    def test_what_is_sound_is_trained_on(self, case, num_left_out, counts):
        source = open_boxes(f"coco:{shared_path('faults', case)}", "train")
        train = for_training(source, with_masks=True)
        self.assertEqual(sum(len(one.boxes) for one in train.objects), 8 - num_left_out)
        self.assertEqual(train.notes.counts, counts)

    def test_exchanged_sides_are_refused(self):
        with self.assertRaisesRegex(ValueError, r"train/0\.jpg .*exchanged"):
            open_boxes(f"coco:{shared_path('faults', 'coco_size_swapped')}", "train")

    def test_objects_without_a_mask_are_noted_in_a_test(self):
        source = open_boxes(f"coco:{shared_path('faults', 'coco_val_segempty')}", "val")
        test = for_testing(source, with_masks=True)
        self.assertEqual(test.notes.counts, {"objects without a mask, left out of the mask AP": 1})
        self.assertEqual(sum(len(one.boxes) for one in test.objects), 8)


if __name__ == "__main__":
    tf.test.main()
