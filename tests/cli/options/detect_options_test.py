import json
import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.options.detect_options import (
    DetectOptions,
    build_box_config,
    check_training,
    draw_labeled,
    open_data,
)
from pixpro_keras.cli.options.option_fields import FlagError
from tests.helpers.examples import write_coco, write_voc


class CheckTrainingTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"test_every_iterations": 15}, "--test_every_iterations=15: must be a multiple of --log"),
        (
            {"steps_per_execution": 2},
            "--steps_per_execution=2: .* so --num_canvases=1 instead of 12",
        ),
    )
    def test_flags_that_do_not_go_together_are_refused(self, options, message):
        check_training(DetectOptions(test_every_iterations=20))
        with self.assertRaisesRegex(FlagError, message):
            check_training(DetectOptions(**options))

    @parameterized.parameters(
        ({"short_sides": ("a", "9")}, "--short_sides=a,9: must be sides in pixels"),
        ({"short_sides": ("0",)}, "--short_sides=0: must be sides"),
        ({"short_sides": ()}, "--short_sides=: must be sides"),
        ({"num_rois": 3}, "--num_rois=3: must be at least 4"),
    )
    def test_sizes_that_cannot_be_are_refused_at_once(self, options, message):
        with self.assertRaisesRegex(FlagError, f"^{message}"):
            DetectOptions(**options)


class OpenDataTest(tf.test.TestCase):
    def test_a_share_of_a_folder_without_splits_is_the_test(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        write_voc(root, [[("cat", 0, 2, 3, 11, 22)]] * 10)
        flat = root / "VOC2007"
        (flat / "ImageSets" / "Main" / "trainval.txt").unlink()
        (flat / "ImageSets" / "Main").rmdir()
        (flat / "ImageSets").rmdir()
        options = DetectOptions.make(dataset=f"voc:{flat}", val_fraction=0.3, seed=1)
        with self.assertLogs("absl", "INFO") as logs:
            train, test = open_data(options)
        self.assertIn("3 of its 10 images are the test (--val_fraction=0.3", " ".join(logs.output))
        self.assertEqual((train.num_examples, test.num_examples), (7, 3))
        self.assertLen({*train.image_ids, *test.image_ids}, 10)
        self.assertEqual(open_data(options)[1].image_ids, test.image_ids)
        self.assertNotEqual(open_data(options.replace(seed=2))[1].image_ids, test.image_ids)
        # Splits that are named must be there, and a data set that has them has a test.
        with self.assertRaisesRegex(FlagError, "--train_split=default: the split"):
            open_data(DetectOptions.make(dataset=f"voc:{flat}", train_split="default"))
        cat = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "area": 200}
        for split in ("train2017", "val2017"):
            write_coco(root / "coco", [cat], split=split)
        splits = {"train_split": "train2017", "test_split": "val2017"}
        with self.assertRaisesRegex(FlagError, "--val_fraction=0.3: .* has a test of its own"):
            open_data(DetectOptions.make(dataset=f"coco:{root}/coco", val_fraction=0.3, **splits))

    def test_an_image_that_is_listed_twice_may_be_in_both_parts(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        cat = {"category_id": 3, "bbox": [1, 2, 10, 20], "area": 200}
        write_coco(root, [cat | {"image_id": number} for number in (7, 9)], split="all")
        file = root / "annotations" / "instances_all.json"
        content = json.loads(file.read_text())
        first = content["images"][0]
        content["images"] = [first, first | {"id": 9}]
        file.write_text(json.dumps(content))
        with self.assertLogs("absl", "WARNING") as logs:
            open_data(DetectOptions.make(dataset=f"coco:{root}"))
        self.assertIn("1 of the 1 test images are training images", logs.output[-1])

    def test_a_share_of_the_labels_has_every_class(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        boxes = {name: [(name, 0, 2, 3, 11, 22)] for name in ("cat", "dog")}
        write_voc(root, [boxes["cat"]] * 18 + [boxes["dog"]] * 2)
        options = {"dataset": f"voc:{root}", "batch_size": 3}
        options |= {"train_split": "2007_trainval", "test_split": "2007_trainval"}

        def drawn(**others):
            options_of_draw = DetectOptions.make(**options, **others)
            train, count = draw_labeled(options_of_draw, open_data(options_of_draw)[0])
            return train.image_ids, count, train.class_names

        ids, count, _ = drawn()
        self.assertEqual((len(ids), count), (20, 20))
        ids, count, class_names = drawn(label_fraction=0.2)
        self.assertEqual((len(ids), len({*ids}), count), (5, 5, 5))
        self.assertLen({"2007_000018", "2007_000019"} & {*ids}, 1)
        self.assertLen(class_names, 20)
        self.assertNotEqual(drawn(label_fraction=0.2, seed=1)[0], ids)
        # Fewer than a batch are repeated.
        ids, count, _ = drawn(label_fraction=0.05)
        self.assertEqual((len(ids), len({*ids}), count), (4, 2, 2))


class BoxConfigTest(tf.test.TestCase):
    def test_other_sizes_in_the_test_are_told(self):
        sides = {"short_sides": ("160", "192"), "max_side": 320}
        with self.assertLogs("absl", "WARNING") as logs:
            build_box_config(DetectOptions(**sides))
        self.assertIn("--test_short_side=800: objects have other sizes", logs.output[0])
        with self.assertNoLogs("absl", "WARNING"):
            build_box_config(DetectOptions(**sides, test_short_side=160))
            build_box_config(DetectOptions())


if __name__ == "__main__":
    tf.test.main()
