import tensorflow as tf

from pixpro_keras.detection.notes import Notes
from pixpro_keras.detection.objects import make_objects


class MakeObjectsTest(tf.test.TestCase):
    def test_small_excess_is_cut_off(self):
        objects = make_objects("image", (40, 60), [[-1, 0, 61, 40.5]], [0], [False])
        self.assertAllEqual(objects.boxes, [[0, 0, 60, 40]])

    def test_polygons_that_are_elsewhere_than_their_box_are_told(self):
        polygon = [4.0, 4.0, 24.0, 4.0, 24.0, 14.0, 4.0, 14.0]
        boxes = [[4, 4, 24, 14], [5, 4, 25, 15], [2, 2, 12, 7], [30, 20, 50, 30], [4, 4, 4, 14]]
        notes = Notes()
        objects = make_objects(
            "a.jpg", (40, 60), boxes, [0] * 5, [False] * 5, None, [[polygon]] * 5, notes=notes
        )
        self.assertLen(objects.boxes, 5)
        kind = "polygons that are elsewhere than their box, used anyway"
        self.assertEqual(str(notes), f"{kind}: 2 (object 3 of a.jpg, ...)")

    def test_polygons_of_small_objects_and_outside_of_the_image_fit_their_box(self):
        notes = Notes()
        small = [4.0, 4.0, 6.0, 4.0, 6.0, 6.0, 4.0, 6.0]  # Centers of the pixels of a box of 3 x 3.
        outside = [-30.0, 4.0, 20.0, 4.0, 20.0, 14.0, -30.0, 14.0]
        boxes = [[4, 4, 7, 7], [-30, 4, 20, 14], [0, 4, 20, 14]]
        polygons = [[small], [outside], [outside]]
        make_objects(
            "a.jpg",
            (40, 60),
            boxes,
            [0] * 3,
            [False] * 3,
            None,
            polygons,
            clip_boxes=True,
            notes=notes,
        )
        self.assertEqual(str(notes), "boxes cut off at the border: 1 (object 2 of a.jpg)")

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
