import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.box_source import VOC07, VOC12, for_training
from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.examples import write_voc
from tests.helpers.shared_data import shared_path


class VOCTest(tf.test.TestCase, parameterized.TestCase):
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
        # As in detectron2, difficult objects are trained on, also those that are alone in their image.
        self.assertEqual(train.image_ids, ["2007_000000", "2007_000001", "2012_000000"])
        self.assertAllEqual(train.objects[0].boxes, objects.boxes)
        self.assertIn("2012_000000.jpg", train.describe(2))
        self.assertEqual(train.read(tf.constant(2)), source.read(tf.constant(3)))

    @parameterized.parameters(
        ([("cat", 0, 1, 1, 70, 40)], "is outside.*0, 0, 70, 40"),
        ([("cat", 0, 30, 1, 20, 40)], "corners in wrong order"),
        (
            [("cat\u200b", 0, 1, 1, 20, 40)],
            r"none of .*; cat \('cat'\) looks like \S+ \('cat\\u200b'\)$",
        ),
        ([("unicorn", 0, 1, 1, 20, 40)], "the class 'unicorn' is none of"),
    )
    def test_wrong_objects(self, objects, message):
        write_voc(self.root, [objects])
        with self.assertRaisesRegex(ValueError, f"2007_000000.xml.*{message}"):
            open_boxes(f"voc:{self.root}", "2007_trainval")

    def write(self, objects=(("cat", 0, 1, 1, 60, 40),), classes=None, lines=None, stems=()):
        """Writes a set of an image each for some names, with its list and classes as bytes."""
        write_voc(self.root, [list(objects)] * max(len(stems), 1))
        folder = self.root / "VOC2007"
        for number, stem in enumerate(stems):
            for place in ("Annotations/{}.xml", "JPEGImages/{}.jpg"):
                (folder / place.format(f"2007_{number:06d}")).rename(folder / place.format(stem))
        if lines is not None:
            (folder / "ImageSets" / "Main" / "trainval.txt").write_bytes(lines)
        if classes is not None:
            (self.root / "classes.txt").write_bytes(classes)

    def open(self, **arguments):
        return open_boxes(f"voc:{self.root}", "2007_trainval", **arguments)

    @parameterized.parameters(b"traffic light\ncat\n", b"\xef\xbb\xbftraffic light\r\ncat")
    def test_classes_are_one_a_line(self, text):
        self.write([("traffic light", 0, 1, 1, 60, 40)], classes=text)
        source = self.open()
        self.assertEqual(source.class_names, ("traffic light", "cat"))
        self.assertAllEqual(source.objects[0].classes, [0])

    @parameterized.parameters(
        (b"cat\ndog\ncat\n", "the class 'cat' is there twice"), (b"\n", "there is no class")
    )
    def test_wrong_classes_are_refused(self, text, message):
        self.write(classes=text)
        with self.assertRaisesRegex(ValueError, f"classes.txt: {message}.*one class a line"):
            self.open()

    @parameterized.parameters(
        (b"\xef\xbb\xbfa b 0\r\nc\r\n\r\n", ("a b 0", "c")),
        (b"a b -1\nc  1\n", ("a b", "c")),
        (b"photo\nphoto 1\nphoto 2\n", ("photo", "photo 1", "photo 2")),
        (b"a b 0\na b 1\n", ("a b 0", "a b 1")),
    )
    def test_lists_have_a_name_or_a_name_and_a_number_a_line(self, text, stems):
        self.write(lines=text, stems=stems)
        source = self.open()
        self.assertEqual(source.image_ids, list(stems))
        self.assertLen(source.notes.counts, int(b"-1" in text))

    def test_a_line_that_may_mean_two_images_is_refused(self):
        self.write(lines=b"photo 1\n", stems=("photo", "photo 1"))
        with self.assertRaisesRegex(ValueError, "trainval.txt: the line 'photo 1' may be"):
            self.open()

    def test_images_of_any_known_ending_are_found(self):
        self.write()
        image = self.root / "VOC2007" / "JPEGImages" / "2007_000000.jpg"
        image.rename(image.with_suffix(".PNG"))
        self.assertIn("2007_000000.PNG", self.open().describe(0))
        image.with_suffix(".bmp").write_bytes(b"BM")
        with self.assertRaisesRegex(ValueError, "2007_000000.* have the same name"):
            self.open()

    def test_an_image_listed_twice_is_read_once(self):
        self.write(lines=b"a\nb\na\n", stems=("a", "b"))
        source = self.open()
        self.assertEqual(source.image_ids, ["a", "b"])
        self.assertEqual(source.notes.counts, {"images that are listed twice, read once": 1})

    @parameterized.parameters(
        (("<width>60", "<width>40"), ".jpg is 60 pixels wide and 40 high, but 40 wide"),
        (("<width>60", "<width>wide"), "xml: size/width must be a number. Received: 'wide'"),
        (("<width>60", "<width>0"), "xml: width must be a positive whole number"),
        (("<difficult>0", "<difficult>no"), "object 1: difficult must be 0 or 1. Received: 'no'"),
        (("</bndbox>", "</bndbox><bndbox></bndbox>"), "object 1: there are several bndbox"),
        (("<xmax>60", "<xmax>x"), "object 1: bndbox/xmax must be a number. Received: 'x'"),
        (("<xmax>60</xmax>", ""), "object 1: there is no bndbox/xmax"),
        (("<xmax>60", "<xmax>nan"), "object 1, 'cat' is outside of all images"),
    )
    def test_wrong_values_are_named(self, replacement, message):
        self.write()
        file = self.root / "VOC2007" / "Annotations" / "2007_000000.xml"
        file.write_text(file.read_text().replace(*replacement))
        with self.assertRaisesRegex(ValueError, f"2007_000000.*{message}"):
            self.open()

    def test_shares_instead_of_pixels_are_refused(self):
        self.write([("cat", 0, 0.1, 0.2, 0.5, 0.5)])
        with self.assertRaisesRegex(ValueError, "object 1, 'cat', of .*xml is 0.1, .*shares"):
            self.open()

    def test_boxes_outside_are_cut_off_only_if_asked_for(self):
        self.write([("cat", 0, 31, 1, 90, 40)])
        with self.assertRaisesRegex(ValueError, "object 1, 'cat' is outside.*--clip_boxes"):
            self.open()
        source = self.open(clip_boxes=True)
        self.assertAllEqual(source.objects[0].boxes, [[30, 0, 60, 40]])
        self.assertEqual(source.notes.counts, {"boxes cut off at the border": 1})

    @parameterized.parameters(
        ("voc_spacename", ("traffic light", "car"), ["000", "001", "002", "003"]),
        ("voc_stemspace", ("RBC", "WBC"), ["a b 0", "a b 1", "c 2", "d 3"]),
        ("voc_png", ("RBC", "WBC"), ["000", "001", "002", "003"]),
        ("voc_bom", ("RBC", "WBC"), ["000", "001", "002", "003"]),
    )
    def test_sets_of_other_tools(self, case, class_names, stems):
        source = open_boxes(f"voc:{shared_path('faults', case)}", "2007_trainval")
        self.assertEqual(source.class_names, class_names)
        self.assertEqual(source.image_ids, stems)
        self.assertEqual(source.notes.counts, {})


if __name__ == "__main__":
    tf.test.main()
