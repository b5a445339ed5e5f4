"""Callbacks under `model.fit`, which tells them other things than the project's loop."""

import contextlib
import io
import os
import pathlib
import shutil
import signal
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras.evaluation.monitor import Monitor
from pixpro_keras.training.callbacks import (
    BrokenImagesCheck,
    CollapseWarning,
    NonfiniteSteps,
    Progress,
    RunLog,
    SaveCheckpoints,
    StopOnSignal,
    TrainingDivergedError,
)
from pixpro_keras.training.checkpoints import Checkpoints, checkpoint_steps
from pixpro_keras.visualize.run_pictures import RunPictures
from tests.helpers.files import read_metrics
from tests.helpers.steps import build
from tests.helpers.tiny_networks import random_batch
from tests.helpers.tiny_runs import batches, compiled_square

STEPS, EPOCHS, BATCH = 3, 2, 8


def fit(model, callbacks, **kwargs):
    """Goes on from the model's step."""
    signature = {k: tf.TensorSpec(v.shape, v.dtype) for k, v in random_batch(BATCH).items()}
    first = model.steps_done()
    data = tf.data.Dataset.from_generator(lambda: batches(first), output_signature=signature)
    model.fit(data, steps_per_epoch=STEPS, callbacks=callbacks, verbose=0, **kwargs)


def fit_square(values, callbacks, **kwargs):
    """A square of some numbers, one in each step."""
    model = compiled_square()
    data = tf.data.Dataset.from_tensor_slices({"x": np.array(values, "float32")}).batch(
        1, drop_remainder=True
    )
    model.fit(data, callbacks=callbacks, verbose=0, **kwargs)
    return model


@pytest.mark.slow
class FitTest(tf.test.TestCase):
    """All of them in one run of two epochs of three steps."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.model = build()
        cls.checkpoints = Checkpoints(cls.folder / "checkpoints", cls.model, {"model": "tiny"})
        cls.stop = StopOnSignal()
        monitor = Monitor(lambda: {"knn_top1": 0.25}, 3)
        callbacks = [
            NonfiniteSteps(10, cls.folder),
            CollapseWarning(collapsed_std=2.0),
            cls.stop,
            Progress(EPOCHS, STEPS, BATCH),
            RunPictures(
                cls.folder,
                random_batch(),
                cls.model.encoder,
                lambda x: x,
                4,
                threshold=0.7,
            ),
            RunLog(cls.folder, STEPS, 2, cls.model.loss_bounds, [monitor]),
            SaveCheckpoints(cls.checkpoints, 2),
        ]
        output = io.StringIO()
        with contextlib.redirect_stdout(output), cls.assertLogs(cls(), "absl", "WARNING") as logs:
            fit(cls.model, callbacks, epochs=EPOCHS)
        cls.output, cls.warnings = output.getvalue(), logs.output
        cls.lines = read_metrics(cls.folder)

    def test_checkpoints_are_saved_when_due(self):
        self.assertEqual(checkpoint_steps(self.folder / "checkpoints"), [6, 4, 2])

    def test_the_log_has_its_steps_and_the_ends_of_epochs(self):
        self.assertEqual([line["step"] for line in self.lines], [2, 3, 4, 6])
        self.assertEqual([line["epoch"] for line in self.lines], [2 / 3, 1, 4 / 3, 2])
        self.assertContainsSubset({"loss", "pixel", "learning_rate", "memory_mib"}, self.lines[0])

    def test_measured_values_are_in_the_log_of_their_step(self):
        found = {line["step"]: line["knn_top1"] for line in self.lines if "knn_top1" in line}
        self.assertEqual(found, {3: 0.25, 6: 0.25})

    def test_progress_has_a_line_for_each_epoch(self):
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        self.assertLen(lines, EPOCHS)
        self.assertRegex(lines[1], r"^epoch 2/2  loss -?\d.*  positives .*  lr ")

    def test_collapse_is_warned_of_once(self):
        self.assertLen(self.warnings, 1)
        self.assertIn("collapsed (step 1)", self.warnings[0])

    def test_pictures_are_drawn_when_due(self):
        names = sorted(file.name for file in (self.folder / "pictures").glob("similarity*"))
        self.assertEqual(names, [f"similarity_{step:07d}.png" for step in (0, 4, 6)])

    def test_without_a_signal_nothing_is_received(self):
        self.assertIsNone(self.stop.received)

    def test_a_restored_checkpoint_goes_on_to_the_same_weights(self):
        folder = self.create_tempdir().full_path
        for file in (self.folder / "checkpoints").glob("ckpt-2.*"):
            shutil.copy(file, folder)
        model = build()
        for weight in model.weights[1:]:
            weight.assign(tf.ones_like(weight))  # nothing may be left from the construction
        checkpoints = Checkpoints(folder, model, {"model": "tiny"})
        self.assertEqual(checkpoints.restore(), 2)
        fit(model, [SaveCheckpoints(checkpoints, 100)], epochs=1)  # steps 3 to 5
        self.assertEqual(checkpoint_steps(folder), [5, 2])
        unbroken = build()
        step = tf.function(unbroken.train_step)
        for batch, _ in zip(batches(0), range(5), strict=False):
            step(batch)
        for one, two in zip(unbroken.weights, model.weights, strict=True):
            self.assertAllEqual(one, two, msg=one.path)


class FitEndsTest(tf.test.TestCase):
    def test_on_too_many_skipped_steps(self):
        folder = self.create_tempdir().full_path
        check = NonfiniteSteps(3, folder, lambda step: [f"{step}.jpg"])
        nan = float("nan")
        with (
            self.assertLogs("absl", "WARNING") as logs,
            self.assertRaisesRegex(TrainingDivergedError, "last 3 steps up to step 7"),
        ):
            fit_square([1, nan, nan, 1, nan, nan, nan, nan], [check])
        self.assertLen(logs.output, 4)
        lines = pathlib.Path(folder, "bad_batches.tsv").read_text().splitlines()
        self.assertEqual(lines, ["5\t4.jpg", "6\t5.jpg", "7\t6.jpg"])

    def test_on_a_signal(self):
        before = signal.getsignal(signal.SIGTERM)

        def send(batch, logs):
            if batch == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        stop = StopOnSignal()
        sender = keras.callbacks.LambdaCallback(on_train_batch_end=send)
        model = fit_square([1] * 6, [sender, stop], epochs=2)
        self.assertEqual(model.steps_done(), 2)
        self.assertEqual(stop.received, signal.SIGTERM)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_on_broken_images(self):
        class Broken:
            def check(self):
                raise ValueError("too many")

        with self.assertRaisesRegex(ValueError, "too many"):
            fit_square([1, 1], [BrokenImagesCheck(Broken())])


if __name__ == "__main__":
    tf.test.main()
