import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.box_source import (
    COCO,
    VOC07,
    BoxSource,
    for_testing,
    for_training,
    unscored_classes,
    with_classes,
    without,
)
from pixpro_keras.detection.objects import make_objects


def source(objects, class_names=("cat", "dog"), class_ids=(1, 2)):
    sizes = np.array([[40, 60]] * len(objects), np.int32)
    ids = range(len(objects))
    return BoxSource("s", lambda i: i, str, sizes, objects, class_names, ids, class_ids, COCO)


class PartsTest(tf.test.TestCase, parameterized.TestCase):
    def test_sound_sets_are_no_warning(self):
        objects = make_objects("a", (40, 60), [[0, 0, 9, 9]] * 2, [0, 1], [False, True])
        with self.assertNoLogs("absl", "WARNING"), self.assertLogs("absl", "INFO") as logs:
            for_training(source([objects]), with_masks=False)
        self.assertLen(logs.output, 1)
        self.assertIn("not trained on: 1 (one of 0)", logs.output[0])
        with self.assertNoLogs("absl"):
            for_testing(source([objects]), with_masks=False)

    def test_the_fingerprint_is_of_images_and_boxes(self):
        def fingerprint(x, number):
            objects = make_objects("a", (40, 60), [[x, 0, 9, 9]], [number], [False])
            return source([objects]).fingerprint

        self.assertEqual(fingerprint(0, 1), fingerprint(0, 1))
        self.assertLen({fingerprint(0, 1), fingerprint(1, 1), fingerprint(0, 0)}, 3)

    def test_difficult_objects_are_trained_on(self):
        objects = make_objects("a", (40, 60), [[0, 0, 9, 9], [5, 5, 9, 9]], [0, 1], [False, True])
        crowded = source([objects])
        voc = dataclasses.replace(crowded, metric=VOC07)
        self.assertAllEqual(for_training(voc, with_masks=False).objects[0].classes, [0, 1])
        self.assertAllEqual(for_training(crowded, with_masks=False).objects[0].classes, [0])

    def test_what_cannot_be_decoded_is_noted(self):
        empty, one = (
            make_objects("i", (40, 60), [[0, 0, 9, 9]] * n, [0] * n, [False] * n) for n in (0, 1)
        )
        left = without(source([empty, one, empty]), {0: "0", 2: "2"})
        self.assertEqual((left.num_examples, left.image_ids, left.describe(0)), (1, [1], "1"))
        self.assertEqual(int(left.read(tf.constant(0))), 1)
        self.assertEqual(left.notes.counts, {"images that cannot be decoded, left out": 2})

    def test_a_test_without_objects_that_count_says_so(self):
        objects = make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [True])
        notes = for_testing(source([objects]), with_masks=False).notes
        self.assertIn("without an object that counts, which has no AP: 1", str(notes))

    def test_classes_are_matched_by_name(self):
        objects = make_objects("a", (40, 60), [[0, 0, 9, 9]] * 2, [0, 1], [False, True])
        one = with_classes(source([objects], ("dog", "cat"), (5, 3)), ("bird", "cat", "dog"))
        self.assertEqual(one.class_names, ("bird", "cat", "dog"))
        self.assertEqual(one.class_ids, [6, 3, 5])
        self.assertAllEqual(one.objects[0].classes, [2, 1])
        self.assertEqual(unscored_classes(one), ["bird", "cat"])
        same = source([objects])
        self.assertIs(with_classes(same, ("cat", "dog")), same)

    @parameterized.parameters(
        (("cat", "Dog"), "Only here: Dog; only in training: dog"),
        (("cat", "dog", "bird"), "Only here: bird; only in training: none"),
        (("cat", "dog\u200b"), r"Only here: \S+ \('dog\\u200b'\); only in training: dog \('dog'\)"),
    )
    def test_classes_that_were_not_trained_are_listed(self, class_names, message):
        ids = range(len(class_names))
        with self.assertRaisesRegex(ValueError, message):
            with_classes(source([], class_names, ids), ("cat", "dog"))


if __name__ == "__main__":
    tf.test.main()
