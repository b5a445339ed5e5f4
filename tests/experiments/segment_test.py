import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.data.masks_test import save
from tests.experiments.cli import run_job, run_jobs

# Flags, and what the error names.
BAD_INPUT = (
    ("--dataset=folder:/nowhere", "--dataset=folder:/nowhere"),
    ("--test_split=test", "--test_split=test"),
    ("--window_stride=33", "--window_stride=33"),
    ("--min_scale=3", "--min_scale=3"),
    ("--weights=/nowhere", "--weights=/nowhere"),
    ("--batch_size=9", "--batch_size=9"),
    ("--backbone=mobilenetv3small", "--output_stride=16"),
)


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
                save(self.folder / split / "images" / f"{number}.png", image)
                save(self.folder / split / "labels" / f"{number}.png", mask)
        self.flags = (
            f"--dataset=folder:{self.folder}",
            "--backbone=resnet18_v1_5",
            "--frozen",
            "--crop_size=32",
            "--window_stride=32",
            "--batch_size=4",
            "--log_every_steps=1",
            f"--workdir={self.folder / 'run'}",
        )

    def test_learns_and_goes_on_where_it_stopped(self):
        for epochs in (4, 40):
            arguments = (f"--epochs={epochs}", "--base_learning_rate=0.2")
            result = run_job("segment.py", *self.flags, *arguments)
            self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertIn("Continuing from", result.stderr)
        run = self.folder / "run"
        steps = [json.loads(x)["step"] for x in (run / "metrics.jsonl").read_text().splitlines()]
        self.assertAllEqual(steps, np.arange(1, 41))
        stored = json.loads((run / "segment.json").read_text())
        self.assertGreater(stored["mIoU"], 0.6)
        self.assertGreater(stored["pixel accuracy"], 0.75)
        self.assertTrue((run / "segment.png").exists())

    def test_bad_input_is_one_line_naming_the_flag(self):
        lines = [(*self.flags, flags) for flags, _ in BAD_INPUT]
        for result, (flags, named) in zip(run_jobs("segment.py", lines), BAD_INPUT, strict=True):
            with self.subTest(flags):
                self.assertEqual(result.returncode, 1)
                errors = [x for x in result.stderr.splitlines() if x.startswith("error:")]
                self.assertLen(errors, 1, msg=result.stderr)
                self.assertIn(named, errors[0])


if __name__ == "__main__":
    tf.test.main()
