import json
import os
import pathlib
import signal
from unittest import mock

import keras
import tensorflow as tf

from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError
from pixpro_keras.data.sources import Source
from pixpro_keras.training.callbacks import TrainingDivergedError
from pixpro_keras.training.checkpoints import CheckpointError, SaveError, checkpoint_steps
from pixpro_keras.training.device_memory import DeviceMemoryError
from pixpro_keras.training.estimate import estimate_run
from pixpro_keras.training.history import FewerStepsError, RunChangedError, read_history
from pixpro_keras.training.run import make_devices, open_checkpoints, run_training
from pixpro_keras.training.run_config import RunConfig
from tests.helpers.files import read_metrics
from tests.helpers.tiny_runs import StopAt, compiled_square


class RunTest(tf.test.TestCase):
    """Runs of two epochs of three steps."""

    def setUp(self):
        super().setUp()
        self.workdir = pathlib.Path(self.create_tempdir().full_path)

    def start(
        self,
        callbacks=(),
        bad=(),
        workdir=None,
        recipe=None,
        on_change="stop",
        epochs=2,
        make_batches=None,
        **kwargs,
    ):
        """Opens a run and trains; returns the task, the first step and the result."""
        config = RunConfig(
            workdir or self.workdir,
            epochs=epochs,
            steps_per_epoch=3,
            batch_size=1,
            log_every_steps=1,
            max_nonfinite_steps=2,
        )
        task = compiled_square()
        checkpoints, first_step = open_checkpoints(
            task, config, {"model": "square"}, recipe=recipe, on_change=on_change
        )
        steps = range(first_step, config.total_steps)
        values = [float("nan") if step in bad else 1.0 + step for step in steps]
        data = tf.data.Dataset.from_tensor_slices({"x": values}).batch(1)
        result = run_training(
            task,
            make_batches or (lambda context: data),
            config,
            checkpoints,
            make_chief_callbacks=lambda: callbacks,
            **kwargs,
        )
        return task, first_step, result

    def logged_steps(self):
        return [line["step"] for line in read_metrics(self.workdir)]

    def test_continues_exactly(self):
        whole, _, _ = self.start(workdir=self.create_tempdir().full_path)
        _, first_step, result = self.start([StopAt(4)])
        self.assertEqual((first_step, result.steps), (0, 4))
        task, first_step, result = self.start()
        self.assertEqual((first_step, result.steps), (4, 6))
        self.assertAllEqual(task.slope, whole.slope)
        self.assertEqual(self.logged_steps(), [1, 2, 3, 4, 5, 6])

    def test_leaves_checkpoints_and_devices(self):
        self.start()
        self.assertEqual(checkpoint_steps(self.workdir / "checkpoints"), [6])
        devices = json.loads((self.workdir / "devices.json").read_text())
        self.assertContainsSubset({"replicas": 1, "precision": "float32"}, devices)

    def test_returns_the_last_metrics(self):
        _, _, result = self.start(measurements=[lambda step: {"hours": step / 2}])
        self.assertEqual((result.metrics["step"], result.metrics["hours"]), (6, 3.0))
        self.assertEqual((result.stop_signal, result.exit_code), (None, 0))

    def test_evaluations_before_a_restart_are_in_the_result(self):
        measurements = [lambda step: {"hours": step / 2} if step % 3 == 0 else {}]
        self.start([StopAt(4)], measurements=measurements)
        for _ in range(2):  # goes on; then there is nothing left to do
            _, _, result = self.start(measurements=measurements)
            self.assertEqual(
                result.measured, [{"step": 3, "hours": 1.5}, {"step": 6, "hours": 3.0}]
            )

    def test_ends_on_a_signal(self):
        def send(batch, logs):
            if batch == 0:  # a second one would end the process
                os.kill(os.getpid(), signal.SIGUSR1)

        before = signal.getsignal(signal.SIGUSR1)
        _, _, result = self.start([keras.callbacks.LambdaCallback(on_train_batch_end=send)])
        self.assertEqual(result.stop_signal, signal.SIGUSR1)
        self.assertEqual((result.steps, result.exit_code), (2, 143))
        self.assertEqual(signal.getsignal(signal.SIGUSR1), before)

    def test_gives_signals_back_after_an_error(self):
        before = signal.getsignal(signal.SIGINT)
        with self.assertRaises(TrainingDivergedError):
            self.start(bad={2, 3})
        self.assertEqual(signal.getsignal(signal.SIGINT), before)

    def test_broken_images_end_a_run_after_a_checkpoint(self):
        broken = BrokenImages(Source("ten", 10, lambda index: {"image": b""}, str), max_share=0)
        report = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: batch == 1 and broken.report(3, is_last=False)
        )
        with self.assertRaisesRegex(BrokenImagesError, "1 of the 10 images"):
            self.start([report], broken=broken)
        (step,) = checkpoint_steps(self.workdir / "checkpoints")
        self.assertEqual(step, 3)  # The check comes before the report in each step.
        _, first_step, result = self.start()
        self.assertEqual((first_step, result.steps), (3, 6))

    def test_images_that_cannot_be_read_any_more_end_a_run_after_a_checkpoint(self):
        broken = BrokenImages(Source("ten", 10, lambda index: {"image": b""}, str), max_share=1)

        def read(value):
            if value > 3:
                broken.report(3, is_last=True)
                raise OSError("gone")
            return value

        def unreadable(context):
            data = tf.data.Dataset.range(1, 7)
            data = data.map(lambda x: tf.ensure_shape(tf.numpy_function(read, [x], tf.int64), ()))
            return data.map(lambda x: {"x": tf.cast(x, tf.float32)[None]})

        with self.assertRaisesRegex(BrokenImagesError, "1 of the 10 images .* in a row"):
            self.start(broken=broken, make_batches=unreadable)
        self.assertEqual(checkpoint_steps(self.workdir / "checkpoints"), [3])

    def test_another_model_is_refused(self):
        self.start()
        config = RunConfig(self.workdir, epochs=2, steps_per_epoch=3, batch_size=1)
        with self.assertRaisesRegex(CheckpointError, "model was square, is line"):
            open_checkpoints(compiled_square(), config, {"model": "line"})

    def test_another_recipe_is_refused_and_changes_nothing(self):
        self.start([StopAt(4)], recipe={"seed": 0})
        before = {file: file.read_bytes() for file in self.workdir.rglob("*") if file.is_file()}
        with self.assertRaisesRegex(RunChangedError, "its 4 steps .*: seed was 0, is 1"):
            self.start(recipe={"seed": 1})
        after = {file: file.read_bytes() for file in self.workdir.rglob("*") if file.is_file()}
        self.assertEqual(after, before)

    def test_another_recipe_goes_on_knowingly(self):
        self.start([StopAt(4)], recipe={"seed": 0})
        _, first_step, result = self.start(recipe={"seed": 1}, on_change="continue")
        self.assertEqual((first_step, result.steps), (4, 6))
        history = [(period.first_step, period.recipe) for period in read_history(self.workdir)]
        self.assertEqual(history, [(0, {"seed": 0}), (4, {"seed": 1})])

    def test_fewer_epochs_than_done_are_refused_and_more_go_on(self):
        self.start(recipe={"seed": 0})
        with self.assertRaisesRegex(FewerStepsError, "6 steps are done already, more than the 3"):
            self.start(recipe={"seed": 0}, epochs=1)
        _, first_step, result = self.start(recipe={"seed": 0}, epochs=3)
        self.assertEqual((first_step, result.steps), (6, 9))

    def test_a_finished_run_trains_nothing(self):
        whole, _, _ = self.start(recipe={"seed": 0})
        task, first_step, result = self.start(recipe={"seed": 0})
        self.assertEqual((first_step, result.steps), (6, 6))
        self.assertAllEqual(task.slope, whole.slope)

    def test_too_little_memory_is_one_line(self):
        config = RunConfig(self.workdir, epochs=1, steps_per_epoch=3, batch_size=2)
        data = tf.data.Dataset.from_tensors({"x": [1.0, 2.0]}).repeat()

        def allocate(batch):
            raise tf.errors.ResourceExhaustedError(
                None,
                None,
                "Graph error:\n\nOOM when allocating tensor on GPU:0 by allocator a\nmore",
            )

        task = compiled_square()
        task.device_transform = allocate
        message = (
            "^not enough memory for a step of 2 images .OOM when allocating tensor on GPU:0.. A sm"
        )
        with self.assertRaisesRegex(DeviceMemoryError, message):
            estimate_run(task, lambda context: data, config)
        checkpoints, _ = open_checkpoints(task, config, {"model": "square"})
        with self.assertRaisesRegex(DeviceMemoryError, message):
            run_training(task, lambda context: data, config, checkpoints)

    def test_a_run_that_could_save_no_step_does_not_begin(self):
        full = mock.patch("shutil.disk_usage", return_value=mock.Mock(total=100, free=1))
        with full, self.assertRaisesRegex(SaveError, "a checkpoint takes"):
            self.start()
        self.assertEmpty(list(self.workdir.iterdir()))
        self.start()
        with full:
            self.start()  # It is finished.


class MakeDevicesTest(tf.test.TestCase):
    def test_by_name(self):
        self.assertEqual(make_devices("one_device").num_replicas_in_sync, 1)


if __name__ == "__main__":
    tf.test.main()
