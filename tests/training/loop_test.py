import json
import os
import pathlib
import signal

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.task import Task
from pixpro_keras.training import callbacks as run_callbacks
from pixpro_keras.training.checkpoints import CheckpointError, Checkpoints, checkpoint_steps
from pixpro_keras.training.loop import train
from tests.helpers.replicas import two_cpus
from tests.helpers.steps import build
from tests.helpers.tiny_networks import random_batch

STEPS, EPOCHS, BATCH = 4, 3, 8


def batches(first, batch_size=BATCH, part=slice(None)):
    """The batches of a run from step `first` on."""
    for step in range(first, 1000):
        yield {k: tf.constant(v[part]) for k, v in random_batch(batch_size, seed=step).items()}


def run(model, callbacks=(), epochs=EPOCHS, log_every_steps=2, **kwargs):
    train(
        model,
        batches(model.steps_done()),
        strategy=tf.distribute.get_strategy(),
        epochs=epochs,
        steps_per_epoch=STEPS,
        batch_size=BATCH,
        callbacks=callbacks,
        log_every_steps=log_every_steps,
        **kwargs,
    )


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if logs["step"] == self.step:
            self.model.stop_training = True


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("begin", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch", batch, logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("end", epoch, logs["loss"]))


class TrainTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_steps_by_hand(self):
        model, by_hand = build(), build()
        run(model)
        step = tf.function(by_hand.train_step)
        for batch, _ in zip(batches(0), range(STEPS * EPOCHS), strict=False):
            step(batch)
        for one, two in zip(model.weights, by_hand.weights, strict=True):
            self.assertAllEqual(one, two, msg=one.path)

    def test_callbacks_see_epochs_batches_and_means(self):
        record, model = Record(), build()
        run(model, [record], epochs=2, log_every_steps=1)
        calls = record.calls
        self.assertEqual([c for c in calls if c[0] == "begin"], [("begin", 0), ("begin", 1)])
        self.assertEqual([c[1] for c in calls if c[0] == "batch"], [*range(STEPS)] * 2)
        losses = [c[2] for c in calls if c[0] == "batch"]
        ends = [c for c in calls if c[0] == "end"]
        self.assertEqual([c[1] for c in ends], [0, 1])
        self.assertAllClose([c[2] for c in ends], np.mean(np.reshape(losses, (2, -1)), axis=1))

    @parameterized.parameters(1, 4, 6)
    def test_resume_is_exact(self, stop):
        folder = self.create_tempdir().full_path
        whole = build()
        run(whole)
        cut = build()
        checkpoints = Checkpoints(folder, cut, {"model": "tiny"})
        run(cut, [StopAt(stop), run_callbacks.SaveCheckpoints(checkpoints, 100)])
        self.assertAllEqual(cut.step, stop)
        again = build()
        for weight in again.weights[1:]:
            weight.assign(tf.ones_like(weight))  # nothing may be left from the construction
        checkpoints = Checkpoints(folder, again, {"model": "tiny"})
        self.assertEqual(checkpoints.restore(), stop)
        run(again)
        for one, two in zip(whole.weights, again.weights, strict=True):
            self.assertAllEqual(one, two, msg=one.path)
        for one, two in zip(whole.optimizer.variables, again.optimizer.variables, strict=True):
            self.assertAllEqual(one, two, msg=one.path)

    def test_a_run_of_one_device_goes_on_on_two(self):
        folder = self.create_tempdir().full_path
        single = build()
        checkpoints = Checkpoints(folder, single, {})
        run(single, [run_callbacks.SaveCheckpoints(checkpoints, 2)], epochs=1)
        (pathlib.Path(folder) / "ckpt-4.index").unlink()  # so that it goes on from 2
        strategy = two_cpus()
        with strategy.scope():
            mirrored = build(synchronized=True)
        self.assertEqual(Checkpoints(folder, mirrored, {}).restore(), 2)
        data = strategy.distribute_datasets_from_function(
            lambda context: tf.data.Dataset.from_generator(
                lambda: self._halves(2), output_signature=self._signature()
            )
        )
        train(
            mirrored,
            data,
            strategy=strategy,
            epochs=1,
            steps_per_epoch=STEPS,
            batch_size=BATCH,
        )
        for one, two in zip(single.weights, mirrored.weights, strict=True):
            self.assertAllClose(two, one, rtol=1e-4, atol=2e-5, msg=one.path)

    def test_several_steps_per_execution_equal_single_ones(self):
        logs, models = [], []
        for steps_per_execution in (1, 2):
            model, record = build(), Record()
            train(
                model,
                tf.data.Dataset.from_generator(
                    lambda: batches(0), output_signature=self._signature(1)
                ),
                strategy=tf.distribute.get_strategy(),
                epochs=2,
                steps_per_epoch=STEPS,
                batch_size=BATCH,
                callbacks=[record],
                log_every_steps=2,
                steps_per_execution=steps_per_execution,
            )
            logs.append([call for call in record.calls if call[0] == "end"])
            models.append(model)
        self.assertEqual(models[1].steps_done(), 2 * STEPS)
        self.assertAllEqual([call[1] for call in logs[1]], [0, 1])
        self.assertAllClose(*([call[2] for call in one] for one in logs), rtol=1e-6)
        for one, two in zip(*(model.weights for model in models), strict=True):
            self.assertAllClose(one, two, rtol=1e-6, atol=1e-7, msg=one.path)

    @parameterized.parameters(
        ({"log_every_steps": 3}, "must divide log_every_steps=3"),
        ({"epochs": 1, "first": 3}, "must divide first_step=3"),
    )
    def test_executions_must_fit(self, arguments, message):
        model = build()
        model.step.assign(arguments.pop("first", 0))
        with self.assertRaisesRegex(ValueError, message):
            run(model, steps_per_execution=2, **arguments)

    def _halves(self, first):
        for batch in batches(first):
            for half in (slice(0, BATCH // 2), slice(BATCH // 2, None)):
                yield {k: v[half] for k, v in batch.items()}

    def _signature(self, parts=2):
        return {
            k: tf.TensorSpec((BATCH // parts, *v.shape[1:]), v.dtype)
            for k, v in random_batch(BATCH).items()
        }


class CheckpointsTest(tf.test.TestCase):
    def test_keeps_the_last_few(self):
        model = build()
        folder = self.create_tempdir().full_path
        checkpoints = Checkpoints(folder, model, {}, keep=2)
        run(model, [run_callbacks.SaveCheckpoints(checkpoints, 3)])
        self.assertEqual(checkpoint_steps(folder), [12, 9])
        self.assertEqual(tf.train.latest_checkpoint(folder), f"{folder}/ckpt-12")

    def test_another_model_is_refused_by_name(self):
        folder = self.create_tempdir().full_path
        model = build()
        Checkpoints(folder, model, {"backbone": "resnet50", "method": "pixpro"}).save()
        with self.assertRaisesRegex(CheckpointError, "backbone was resnet50, is resnet18"):
            Checkpoints(folder, build(), {"backbone": "resnet18", "method": "pixpro"}).restore()

    def test_another_shape_is_refused(self):
        folder = self.create_tempdir().full_path
        Checkpoints(folder, build(), {}).save()
        with self.assertRaisesRegex(CheckpointError, r"linear2/kernel.*\(1, 1, 32, 8\) there"):
            Checkpoints(folder, build(out_dim=12), {}).restore()

    def test_missing_parts_are_refused(self):
        folder = self.create_tempdir().full_path
        Checkpoints(folder, build(use_propagation=False), {}).save()
        with self.assertRaisesRegex(CheckpointError, "41 variables of the weights"):
            Checkpoints(folder, build(), {}).restore()

    def test_nothing_there_starts_at_zero(self):
        self.assertEqual(Checkpoints(self.create_tempdir().full_path, build(), {}).restore(), 0)


class RunLogTest(tf.test.TestCase):
    def test_lines_after_a_resume_are_in_order(self):
        folder = self.create_tempdir().full_path
        model = build()
        log = lambda: run_callbacks.RunLog(folder, STEPS, 2, model.loss_bounds)  # noqa: E731
        run(model, [log(), StopAt(8)])
        model.step.assign(4)  # as if the last checkpoint had been at step 4
        run(model, [log()])
        with open(f"{folder}/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual([line["step"] for line in lines], [2, 4, 6, 8, 10, 12])
        self.assertEqual(lines[-1]["epoch"], 3.0)
        expected = {"loss", "pixel", "positive_share", "positive_cosine", "feature_std"}
        expected |= {"learning_rate", "target_momentum", "images_per_second", "input_wait_share"}
        self.assertContainsSubset(expected | {"memory_mib"}, lines[0])

    def test_charts_name_the_bounds(self):
        bounds = {"pixel": (-4.0, 4.0), "instance": (0.0, None)}
        self.assertEqual(run_callbacks.chart_name("pixel", bounds), "loss/pixel in [-4, 4]")
        self.assertEqual(run_callbacks.chart_name("instance", bounds), "loss/instance in [0, inf]")
        self.assertEqual(run_callbacks.chart_name("learning_rate", bounds), "learning_rate")


class VitalSignsTest(tf.test.TestCase):
    def test_warns_once_in_words(self):
        signs = run_callbacks.VitalSigns()
        signs.set_model(build())
        with self.assertLogs("absl", "WARNING") as logs:
            for _ in range(2):
                signs.on_train_batch_end(0, {"step": 1, "loss": -4.0, "feature_std": 1e-4})
                signs.on_train_batch_end(0, {"step": 1, "loss": 0.0, "positive_share": 0.0})
        self.assertLen(logs.output, 2)
        self.assertIn("collapsed", logs.output[0])
        self.assertIn("No pixel pair was positive", logs.output[1])


class StopOnSignalTest(tf.test.TestCase):
    def begin(self):
        stop = run_callbacks.StopOnSignal()
        stop.set_model(Task())
        stop.model.stop_training = False
        stop.on_train_begin()
        return stop

    def test_ends_after_the_step(self):
        before = signal.getsignal(signal.SIGTERM)
        for number, code in ((signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)):
            stop = self.begin()
            stop.on_train_batch_end(0)
            self.assertFalse(stop.model.stop_training)
            os.kill(os.getpid(), number)
            stop.on_train_batch_end(1)
            self.assertTrue(stop.model.stop_training)
            stop.on_train_end()
            self.assertEqual(run_callbacks.exit_code_of(stop.received), code)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_the_second_one_ends_at_once(self):
        child = os.fork()
        if child == 0:
            self.begin()
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), -signal.SIGINT)


if __name__ == "__main__":
    tf.test.main()
