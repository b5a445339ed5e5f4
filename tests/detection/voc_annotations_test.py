import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.box_source import VOC07, VOC12, for_training
from pixpro_keras.detection.datasets import open_boxes
from tests.helpers.examples import write_voc


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
        self.assertEqual(train.image_ids, ["2007_000000", "2012_000000"])
        self.assertAllEqual(train.objects[0].boxes, [[0, 0, 60, 40]])
        self.assertIn("2012_000000.jpg", train.describe(1))
        self.assertEqual(train.read(tf.constant(1)), source.read(tf.constant(3)))

    @parameterized.parameters(
        ([("cat", 0, 1, 1, 70, 40)], "is outside.*0, 0, 70, 40"),
        ([("cat", 0, 30, 1, 20, 40)], "wrong way round"),
        ([("unicorn", 0, 1, 1, 20, 40)], "the class 'unicorn' is none of"),
    )
    def test_wrong_objects(self, objects, message):
        write_voc(self.root, [objects])
        with self.assertRaisesRegex(ValueError, f"2007_000000.xml.*{message}"):
            open_boxes(f"voc:{self.root}", "2007_trainval")


if __name__ == "__main__":
    tf.test.main()
