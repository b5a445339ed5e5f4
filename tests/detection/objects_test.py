import tensorflow as tf

from pixpro_keras.detection.notes import Notes
from pixpro_keras.detection.objects import make_objects


class MakeObjectsTest(tf.test.TestCase):
    def test_small_excess_is_cut_off(self):
        objects = make_objects("image", (40, 60), [[-1, 0, 61, 40.5]], [0], [False])
        self.assertAllEqual(objects.boxes, [[0, 0, 60, 40]])

    def test_what_is_left_out_is_left_out_of_all_fields(self):
        notes = Notes()
        objects = make_objects(
            "image",
            (40, 60),
            [[70, 0, 80, 9], [0, 0, 9, 9]],
            [0, 1],
            [False, True],
            [90.0, 81.0],
            [[[70, 0, 80, 0, 80, 9]], [[0, 0, 9, 0, 9, 9]]],
            clip_boxes=True,
            notes=notes,
        )
        self.assertEqual(str(notes), "boxes outside, left out: 1 (object 1 of image)")
        self.assertAllEqual(objects.boxes, [[0, 0, 9, 9]])
        self.assertAllEqual(objects.classes, [1])
        self.assertAllEqual(objects.is_ignored, [True])
        self.assertAllEqual(objects.areas, [81.0])
        self.assertEqual(objects.segmentations, [[[0, 0, 9, 0, 9, 9]]])


if __name__ == "__main__":
    tf.test.main()
