import contextlib
import json
import pathlib
import types
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli import detect
from pixpro_keras.cli.detect import DetectOptions, normalized_together, score, unscored
from pixpro_keras.cli.options.detect_options import open_data
from pixpro_keras.cli.options.option_fields import FlagError
from tests.helpers.examples import write_coco, write_voc
from tests.helpers.files import read_metrics
from tests.helpers.jobs import run_job, run_jobs

# Flags, and what the error names.
BAD_INPUT = (
    ("--dataset=voc:/nowhere", "--dataset=voc:/nowhere"),
    ("--dataset=photos", "--dataset=photos"),
    ("--train_split=2008_train", "--train_split=2008_train"),
    ("--test_split=2007_test", "--test_split=2007_test"),
    ("--model=mask_rcnn_fpn", "--model=mask_rcnn_fpn"),
    ("--short_sides=64,x", "--short_sides=64,x"),
    ("--max_side=32", "--max_side=32"),
    ("--num_rois=2", "--num_rois=2"),
    ("--image_size=64", "--image_size=64: the sizes of the images are --short_sides"),
    ("--weights=/nowhere", "--weights=/nowhere"),
    ("--batch_size=9", "--batch_size=9"),
    ("--max_boxes=0", "max_boxes"),
    ("--log_every_steps=2 --test_every_iterations=3", "--test_every_iterations=3"),
    ("--steps_per_execution=2", "so --num_canvases=1 instead of 12"),
    ("--iterations=3", "--iterations=3"),
    ("--iterations=4", "--epochs=1 --iterations=4"),
)


class OpenDataTest(tf.test.TestCase, parameterized.TestCase):
    def options(self, root, model="mask_rcnn_c4"):
        return DetectOptions(
            dataset=f"coco:{root}", train_split="train2017", test_split="val2017", model=model
        )

    def test_a_class_without_test_objects_has_no_score(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        cat = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "area": 200}
        cat |= {"segmentation": [[1, 2, 11, 2, 11, 22]]}
        write_coco(root, [cat, cat | {"category_id": 1}])
        write_coco(root, [cat | {"category_id": 5}], categories=[(5, "cat")], split="val2017")
        options = self.options(root)
        _, test = open_data(options)
        self.assertEqual(test.class_names, ("dog", "cat"))
        self.assertAllEqual(test.objects[0].classes, [1])
        self.assertEqual(test.class_ids[1], 5)
        missing = unscored(options, test)
        self.assertIn("AP dog", missing)
        self.assertIn("mask AP", missing)
        self.assertNotIn("AP cat", missing)
        write_coco(root, [cat], categories=[(3, "Cat")], split="val2017")
        with self.assertRaisesRegex(FlagError, "val2017.*here: Cat; only in training: dog, cat"):
            open_data(options)

    def test_nothing_is_scored_where_no_object_counts(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        crowd = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20], "area": 200}
        write_coco(root, [crowd])
        write_coco(root, [crowd | {"iscrowd": 1}], split="val2017")
        options = self.options(root, "faster_rcnn_c4")
        _, test = open_data(options)
        self.assertEqual(score([], test), {})
        self.assertIsNone(unscored(options, test)["AP"])

    def test_the_chief_opens_the_data_first(self):
        calls = []

        @contextlib.contextmanager
        def chief_first(strategy):
            calls.append(strategy)
            yield
            calls.append("others")

        def open_data(options):
            calls.append("opens")
            raise FlagError("no data")

        strategy = tf.distribute.get_strategy()
        job = types.SimpleNamespace(workdir=None, strategy=strategy, replica_batch_size=1)
        with (
            mock.patch.multiple(detect, chief_first=chief_first, open_data=open_data),
            mock.patch.object(detect, "read_network", lambda options: (None, options)),
            self.assertRaises(FlagError),
        ):
            detect.train_and_test(DetectOptions(), job)
        self.assertEqual(calls, [strategy, "opens"])

    @parameterized.parameters(
        ({"short_sides": ("64", "x")}, "--short_sides=64,x"),
        ({"weights": "/nowhere"}, "--weights=/nowhere"),
    )
    def test_flags_are_checked_before_the_data_is_opened(self, options, message):
        strategy = tf.distribute.get_strategy()
        job = types.SimpleNamespace(workdir=None, strategy=strategy, replica_batch_size=1)
        with (
            mock.patch.object(detect, "open_data") as opens,
            self.assertRaisesRegex(FlagError, message),
        ):
            detect.train_and_test(DetectOptions.make(dataset="scenes", **options), job)
        opens.assert_not_called()

    def test_flags_are_checked_before_the_folder_is_made(self):
        place = pathlib.Path(self.create_tempfile().full_path) / "run"  # A file is there.
        options = self.options("/nowhere").replace(workdir=str(place), test_every_iterations=15)
        with self.assertRaisesRegex(FlagError, "--test_every_iterations=15"):
            detect.run(options)

    def test_networks_of_one_image_size_are_refused(self):
        inputs = keras.Input((64, 64, 3))
        outputs = keras.layers.Conv2D(4, 3, strides=32, padding="same")(inputs)
        file = f"{self.create_tempdir().full_path}/network.keras"
        keras.Model(inputs, outputs).save(file)
        options = DetectOptions.make(dataset="scenes", backbone=file, image_size=64)
        with self.assertRaisesRegex(FlagError, "^--backbone=.*: takes images of 64 px only"):
            detect.read_network(options)

    def test_parts_of_a_step_are_normalized_alone(self):
        for steps, expected in ((1, (16, 8)), (4, (4, 2))):
            options = DetectOptions(batch_size=16, accumulate_steps=steps)
            strategies = (tf.distribute.get_strategy(), None)
            sizes = [normalized_together(options, 8, strategy) for strategy in strategies]
            self.assertEqual(tuple(sizes), expected)


@pytest.mark.slow
class DetectTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        objects = [[("cat", 0, 5, 5, 30, 30), ("dog", 0, 30, 10, 58, 35)]] * 4
        write_voc(self.folder, objects)
        write_voc(self.folder, objects[:2], split="val")
        self.flags = (
            f"--dataset=voc:{self.folder}",
            "--train_split=2007_trainval",
            "--test_split=2007_val",
            "--backbone=resnet10_v1_5",
            "--short_sides=48,64",
            "--test_short_side=64",
            "--max_side=96",
            "--num_rois=8",
            "--max_proposals=8",
            "--bn_batches=2",
            "--batch_size=2",
            "--steps_per_epoch=2",
            "--log_every_steps=1",
            "--deterministic",
        )

    def test_trains_tests_exports_and_goes_on(self):
        run = self.folder / "run"
        for steps in (2, 4):
            # The schedule of a shorter run is another one: no decay here.
            arguments = (f"--iterations={steps}", "--warmup_epochs=0", "--schedule=steps")
            arguments += (f"--test_every_iterations={steps // 4 * 4}",)  # in the second run
            result = run_job("detect.py", *self.flags, *arguments, f"--workdir={run}")
            self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertIn("Continuing from", result.stderr)
        self.assertRegex(result.stdout, "learning rate +0.0025 at its peak")
        lines = read_metrics(run)
        self.assertEqual([x["step"] for x in lines], [1, 2, 3, 4])
        for name in ("detect.md", "detect.png", "detections.json"):
            self.assertTrue((run / name).exists(), name)
        result = json.loads((run / "detect.json").read_text())
        self.assertEqual(result["AP by"], "VOC 2007, 11 points")
        self.assertEqual(["AP50" in x for x in lines], [False, False, False, True])
        for key in ("AP", "AP50"):
            self.assertAllClose(lines[-1][key], result[key])
        served = tf.saved_model.load(str(run / "export" / "detector"))
        found = served(np.zeros((50, 40, 3), np.uint8))
        self.assertEqual(found["boxes"].shape[1], 4)

    def test_bad_input_is_one_line_naming_the_flag(self):
        flags = (*self.flags, "--epochs=1", f"--workdir={self.folder / 'run'}")
        lines = [(*flags, *bad.split()) for bad, _ in BAD_INPUT]
        for result, (bad, named) in zip(run_jobs("detect.py", lines), BAD_INPUT, strict=True):
            with self.subTest(bad):
                self.assertEqual(result.returncode, 1)
                errors = [x for x in result.stderr.splitlines() if x.startswith("error:")]
                self.assertLen(errors, 1, msg=result.stderr)
                self.assertIn(named, errors[0])

    def test_masks_must_be_there(self):
        annotation = {"image_id": 7, "category_id": 3, "bbox": [1, 2, 10, 20]}
        for split in ("train2017", "val2017"):
            write_coco(self.folder, [annotation], split=split)
        flags = (f"--dataset=coco:{self.folder}", "--train_split=train2017")
        flags += ("--test_split=val2017", "--model=mask_rcnn_c4", f"--workdir={self.folder}/run")
        result = run_job("detect.py", *flags)
        self.assertEqual(result.returncode, 1)
        self.assertIn("a.jpg has no masks", result.stderr.splitlines()[-1])


if __name__ == "__main__":
    tf.test.main()
