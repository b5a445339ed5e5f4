import json
import pathlib
import types
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.cli import segment
from pixpro_keras.cli.options.evaluation_options import EvaluatedBackbone
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.segment import SegmentOptions, finish
from pixpro_keras.segmentation import MaskSource
from pixpro_keras.weights import export_backbone
from tests.helpers.examples import save_image
from tests.helpers.files import read_metrics
from tests.helpers.jobs import run_job, run_jobs

# Flags, and what the error names.
BAD_INPUT = (
    ("--dataset=folder:/nowhere", "--dataset=folder:/nowhere"),
    ("--test_split=test", "--test_split=test"),
    ("--window_stride=33", "--window_stride=33 --crop_size=32: "),
    ("--whole_images", "--window_stride=32: --whole_images has no windows"),
    ("--min_scale=3", "--min_scale=3"),
    ("--weights=/nowhere", "--weights=/nowhere"),
    ("--batch_size=9", "--batch_size=9"),
    ("--backbone=mobilenetv3small", "--output_stride=16"),
    ("--solver=lbfgs --nofrozen", "--solver=lbfgs"),
    ("--solver=lbfgs", "--batch_size=4: --solver=lbfgs does not use it"),
    ("--backbone_learning_rate_factor=0.1", "--backbone_learning_rate_factor"),
    ("--resize=40", "--resize=40"),
    ("--image_size=64", "--image_size=64: the sizes of the images are --resize and --crop_size"),
    ("--test_split=train", "these are the training images"),
    ("--label_fraction=0", "--label_fraction=0"),
    ("--dataset=scenes --train_split=nothing", "--train_split=nothing"),
)
# Flags of the tests that --solver=lbfgs refuses.
SGD_ALONE = ("--batch_size", "--log_every", "--crop_size", "--window_stride")


def distance(one, other):
    """Largest difference of two arrays, infinite if their shapes differ."""
    return np.abs(one - other).max() if np.shape(one) == other.shape else np.inf


def finish_black(folder, logits, value):
    """Result of a test on a black image of one class, in a window of four times its area."""

    def read(index):
        return tf.zeros((8, 8, 3), tf.uint8), tf.fill((8, 8), value)

    job = types.SimpleNamespace(workdir=pathlib.Path(folder), strategy=tf.distribute.get_strategy())
    finish(
        SegmentOptions(dataset="folder:black", crop_size=16, window_stride=16),
        job,
        EvaluatedBackbone(None, lambda image: tf.cast(image, tf.float32), "tiny"),
        logits,
        ("zero", "one"),
        1,
        MaskSource("black", 1, read, str, ("zero", "one")),
    )
    return json.loads((pathlib.Path(folder) / "segment.json").read_text())


class FinishTest(tf.test.TestCase):
    def test_windows_have_the_color_of_crops_beyond_the_image(self):
        def logits(windows, size):
            """Finds class 1 everywhere if the last pixel has the mean color."""
            is_mean = tf.reduce_all(abs(windows[:, -1, -1] - (123.675, 116.28, 103.53)) < 0.01, -1)
            classes = tf.cast(is_mean, tf.int32)[:, None, None]
            return tf.one_hot(tf.broadcast_to(classes, (tf.shape(windows)[0], *size)), 2)

        found = finish_black(self.create_tempdir().full_path, logits, 1)
        self.assertEqual((found["mIoU"], found["one"], found["zero"]), (1.0, 1.0, None))

    def test_pixels_without_a_class_have_no_score(self):
        def logits(windows, size):
            return tf.zeros((tf.shape(windows)[0], *size, 2))

        self.assertIsNone(finish_black(self.create_tempdir().full_path, logits, 255)["mIoU"])


class ChecksTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ({"frozen": True, "solver": "lbfgs"}, "contains a run"),
        ({"weights": "/nowhere"}, "--weights=/nowhere"),
    )
    def test_come_before_the_data_is_opened(self, options, message):
        folder = pathlib.Path(self.create_tempdir().full_path)
        (folder / "checkpoints").mkdir()
        job = types.SimpleNamespace(
            workdir=folder, strategy=tf.distribute.get_strategy(), replica_batch_size=1
        )
        with (
            mock.patch.object(segment, "open_parts") as opens,
            self.assertRaisesRegex(FlagError, message),
        ):
            segment.train_and_test(
                SegmentOptions.make(dataset="scenes", workdir=folder, **options), job
            )
        opens.assert_not_called()


@pytest.mark.slow
class SegmentTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            for number in range(4):
                mask = np.zeros((40, 48), np.uint8)
                mask[:, rng.integers(10, 38) :] = 1
                # Dark and bright: any features tell them apart.
                image = np.stack([30 + 180 * mask] * 3, -1) + rng.integers(0, 20, (40, 48, 3))
                save_image(self.folder / split / "images" / f"{number}.png", image)
                save_image(self.folder / split / "labels" / f"{number}.png", mask)
        self.flags = (
            f"--dataset=folder:{self.folder}",
            "--backbone=resnet10_v1_5",
            "--frozen",
            "--crop_size=32",
            "--window_stride=32",
            "--batch_size=4",
            "--log_every_steps=1",
            f"--workdir={self.folder / 'run'}",
        )

    def segment(self, *flags):
        result = run_job("segment.py", *self.flags, *flags)
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertTrue((self.folder / "run" / "segment.png").exists())
        return result, json.loads((self.folder / "run" / "segment.json").read_text())

    def test_learns_and_goes_on_exactly_where_it_stopped(self):
        flags = ("--epochs=40", "--base_learning_rate=0.2", "--checkpoint_every_steps=30")
        flags += ("--deterministic", "--keep_checkpoints=9")
        _, whole = self.segment(*flags)
        self.assertGreater(whole["mIoU"], 0.6)
        self.assertGreater(whole["pixel accuracy"], 0.75)
        checkpoints = self.folder / "run" / "checkpoints"
        expected = tf.train.load_checkpoint(str(checkpoints / "ckpt-40"))
        names = expected.get_variable_to_shape_map()
        expected = {name: expected.get_tensor(name) for name in names}
        # As if it had been killed after step 30.
        for file in checkpoints.glob("ckpt-40*"):
            file.unlink()
        result, again = self.segment(*flags)
        self.assertIn("Continuing from", result.stderr)
        self.assertEqual(again, whole)
        found = tf.train.load_checkpoint(str(checkpoints / "ckpt-40"))
        for name in (n for n in names if n.startswith(("weights", "optimizer"))):
            self.assertAllEqual(found.get_tensor(name), expected[name])
        lines = read_metrics(self.folder / "run")
        self.assertAllEqual([line["step"] for line in lines], np.arange(1, 41))

    def test_fits_cells_of_some_labels(self):
        self.flags = [x for x in self.flags if not x.startswith(SGD_ALONE)]
        _, stored = self.segment("--solver=lbfgs", "--label_fraction=0.5")
        self.assertIn("--whole_images", (self.folder / "run" / "flags.cfg").read_text().split())
        self.assertEqual(stored["training images"], 2)
        self.assertGreater(stored["pixel accuracy"], 0.75)

    def test_a_slow_backbone_up_to_a_level(self):
        backbone = backbones.build("resnet10_v1_5")
        export_backbone(backbone, backbone.name, self.folder / "trained" / "export")
        flags = ("--nofrozen", f"--weights={self.folder / 'trained'}", "--level=c4")
        result, _ = self.segment(*flags, "--backbone_learning_rate_factor=1e-9", "--epochs=1")
        self.assertIn("learning rate times 1e-09", result.stdout)
        path = tf.train.latest_checkpoint(str(self.folder / "run" / "checkpoints"))
        trained = tf.train.load_checkpoint(path)
        expected = backbone.get_layer("conv4_block1_1_conv").kernel.numpy()
        weights = map(trained.get_tensor, trained.get_variable_to_shape_map())
        self.assertLess(min(distance(one, expected) for one in weights), 1e-6)

    def test_bad_input_is_one_line_naming_the_flag(self):
        lines = [(*self.flags, *flags.split()) for flags, _ in BAD_INPUT]
        for result, (flags, named) in zip(run_jobs("segment.py", lines), BAD_INPUT, strict=True):
            with self.subTest(flags):
                self.assertEqual(result.returncode, 1)
                errors = [x for x in result.stderr.splitlines() if x.startswith("error:")]
                self.assertLen(errors, 1, msg=result.stderr)
                self.assertIn(named, errors[0])


if __name__ == "__main__":
    tf.test.main()
