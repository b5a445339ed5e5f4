import contextlib
import io
import json
import os
import pathlib
import signal
from unittest import mock

import pytest
import tensorflow as tf

import pixpro_keras
from pixpro_keras.training import Tracker, trackers
from tests.helpers.jobs import write_photos
from tests.helpers.tiny_networks import tiny_backbone

SHORT = {
    "method": "byol",
    "projector_hidden_dim": 16,
    "projector_dim": 8,
    "image_size": 32,
    "batch_size": 4,
    "epochs": 1,
    "warmup_epochs": 0,
    "log_every_steps": 1,
    "picture_every_steps": 2,
}


class Recorder(Tracker):
    """Tracker that keeps everything in memory."""

    run_id = "1"

    def __init__(self, workdir, run_id, config):
        super().__init__(workdir)
        self.got_id, self.config = run_id, config
        self.scalars, self.pictures, self.files, self.ends = [], [], [], []
        made.append(self)

    def send_scalars(self, step, values):
        self.scalars.append((step, values))

    def send_picture(self, step, name, file):
        self.pictures.append((step, name))

    def send_file(self, file):
        self.files.append(file.name)

    def end(self, is_complete):
        self.ends.append(is_complete)


made: list[Recorder] = []


class TrackerTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.photos = write_photos(self.folder / "photos")
        made.clear()

    def pretrain(self, **options):
        with contextlib.redirect_stdout(io.StringIO()):
            return pixpro_keras.pretrain(self.photos, self.folder / "run", **SHORT | options)

    @pytest.mark.slow
    def test_a_tracker_gets_what_a_run_has(self):
        with mock.patch.object(trackers, "_MLflow", Recorder):
            self.pretrain(backbone=tiny_backbone(), tracker="mlflow")
            (tracker,) = made
            lines = (self.folder / "run" / "metrics.jsonl").read_text().splitlines()
            self.assertEqual([step for step, _ in tracker.scalars], [1, 2])
            for line, (_, values) in zip(lines, tracker.scalars, strict=True):
                line = json.loads(line)
                self.assertAllClose(values["train/loss"], line["loss"])
                self.assertEqual(len(values), len(line) - 2)  # step and epoch
            self.assertEqual(tracker.config["batch_size"], 4)
            self.assertIn((1, "pictures/correspondences"), tracker.pictures)
            self.assertIn((2, "pictures/similarity"), tracker.pictures)
            self.assertIn((2, "pictures/curves"), tracker.pictures)
            self.assertEqual(tracker.files, ["README.md", "flags.cfg"])
            self.assertEqual(tracker.ends, [True])

    @pytest.mark.slow
    def test_a_run_that_a_signal_ends_is_not_complete_until_it_is_continued(self):
        class Stopped(Recorder):
            def send_scalars(self, step, values):
                super().send_scalars(step, values)
                if len(self.scalars) == 1:
                    os.kill(os.getpid(), signal.SIGTERM)

        for cls in (Stopped, Recorder):
            with mock.patch.object(trackers, "_MLflow", cls):
                self.pretrain(backbone=tiny_backbone(), tracker="mlflow", epochs=2)
        stopped, continued = made
        self.assertEqual([step for step, _ in stopped.scalars], [1, 2])
        self.assertEqual([step for step, _ in continued.scalars], [3, 4])
        self.assertEqual((stopped.ends, continued.ends), ([False], [True]))

    @pytest.mark.slow
    def test_a_tracker_that_does_not_start_is_refused(self):
        def fail(*_):
            raise RuntimeError("no API key configured")

        with (
            mock.patch.object(trackers, "_Wandb", fail),
            self.assertRaisesRegex(
                ValueError, "--tracker=wandb: wandb did not start: no API key configured"
            ),
        ):
            self.pretrain(backbone=tiny_backbone(), tracker="wandb")
        self.assertFalse(os.path.exists(self.folder / "run" / "metrics.jsonl"))


if __name__ == "__main__":
    tf.test.main()
