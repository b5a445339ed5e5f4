import functools
import itertools
import pathlib
import types
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.evaluation.monitor import Monitor
from pixpro_keras.training import loop
from pixpro_keras.training.callbacks import FeatureRank, RunLog, SaveCheckpoints
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.training.loop import train
from tests.helpers.replicas import two_cpus
from tests.helpers.steps import build
from tests.helpers.tiny_networks import random_batch
from tests.helpers.tiny_runs import (
    BATCH,
    EPOCHS,
    STEPS,
    Record,
    StopAt,
    batches,
    compiled_square,
    run,
)


@functools.cache
def whole_run():
    """A model after an unbroken run, which nobody changes."""
    model = build()
    run(model)
    return model


class TrainTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_steps_by_hand(self):
        model, by_hand = whole_run(), build()
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

    @parameterized.parameters(1, 2)
    def test_speeds_leave_tracing_out(self, steps_per_execution):
        now = itertools.count(step=0.001)  # Each look at the clock takes a millisecond.
        tracing = []

        def traced_slowly(batch):
            tracing.append(0.5)
            return batch

        def clock():
            return next(now) + sum(tracing)

        class Speeds(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                speeds.append(logs["images_per_second"])

        speeds, task = [], compiled_square()
        task.device_transform = traced_slowly
        self.enter_context(mock.patch.object(loop.time, "perf_counter", clock))
        train(
            task,
            tf.data.Dataset.from_tensors({"x": tf.ones(1)}).repeat(),
            strategy=tf.distribute.get_strategy(),
            epochs=2,
            steps_per_epoch=4,
            batch_size=1,
            callbacks=[Speeds()],
            steps_per_execution=steps_per_execution,
        )
        self.assertGreater(min(speeds), 4 / 0.5)

    @parameterized.parameters(1, 4, 6)
    @pytest.mark.slow
    def test_resume_is_exact(self, stop):
        folder = self.create_tempdir().full_path
        whole, cut = whole_run(), build()
        checkpoints = Checkpoints(folder, cut, {"model": "tiny"})
        run(cut, [StopAt(stop), SaveCheckpoints(checkpoints, 100)])
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

    @pytest.mark.slow
    def test_a_run_of_one_device_goes_on_on_two(self):
        folder = self.create_tempdir().full_path
        single = build()
        checkpoints = Checkpoints(folder, single, {})
        run(single, [SaveCheckpoints(checkpoints, 2)], epochs=1)
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

    @pytest.mark.slow
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
        # log_every_steps, every_steps of a callback, step after each execution
        (8, None, [4, 8, 12, 16]),
        (3, None, [3, 6, 8, 9, 12, 15, 16]),
        (8, 5, [4, 5, 8, 10, 14, 15, 16]),
    )
    def test_executions_end_where_something_is_due(self, log_every_steps, every_steps, expected):
        seen = []
        callback = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(logs["step"])
        )
        callback.every_steps = every_steps
        train(
            compiled_square(),
            tf.data.Dataset.from_tensors({"x": [1.0]}).repeat(),
            strategy=tf.distribute.get_strategy(),
            epochs=2,
            steps_per_epoch=8,
            batch_size=1,
            callbacks=[callback],
            log_every_steps=log_every_steps,
            steps_per_execution=4,
        )
        self.assertEqual(seen, expected)

    @parameterized.parameters(1, 4)
    def test_updates_are_counted_to_the_newest_step(self, steps_per_execution):
        windows, epochs = [], []
        callback = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: windows.append((logs["step"], logs["updates"])),
            on_epoch_end=lambda epoch, logs: epochs.append(logs["updates"]),
        )
        train(
            compiled_square(),
            tf.data.Dataset.from_tensors({"x": [1.0]}).repeat(),
            strategy=tf.distribute.get_strategy(),
            epochs=2,
            steps_per_epoch=8,
            batch_size=1,
            callbacks=[callback],
            log_every_steps=4,
            steps_per_execution=steps_per_execution,
        )
        ends = [updates for step, updates in windows if step % 4 == 0]
        self.assertEqual(ends, [4, 8, 12, 16])
        self.assertEqual(epochs, [8, 16])

    def test_all_workers_take_equally_many_steps_in_an_execution(self):
        def gather(strategy, value):
            """The chief's value, and that of a worker whose callback is due every 3 steps."""
            return np.array([value, 3 if isinstance(value, int) else value])

        seen = []
        chief_callback = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: seen.append(logs["step"])
        )
        chief_callback.every_steps = 10
        with mock.patch.multiple(loop, is_multi_worker=lambda strategy: True, gather=gather):
            train(
                compiled_square(),
                tf.data.Dataset.from_tensors({"x": [1.0]}).repeat(),
                strategy=tf.distribute.get_strategy(),
                epochs=1,
                steps_per_epoch=12,
                batch_size=1,
                callbacks=[chief_callback],
                log_every_steps=12,
                steps_per_execution=12,
            )
        self.assertEqual(seen, [3, 6, 9, 10, 12])

    def test_executions_end_where_a_measurement_or_a_feature_rank_is_due(self):
        measured, ranked = [], []
        monitor = Monitor(lambda: {"knn_top1": 0.5}, every_steps=6)
        log = RunLog(
            self.create_tempdir().full_path,
            steps_per_epoch=8,
            log_every_steps=8,
            loss_bounds={},
            measurements=[monitor],
            sinks=[lambda step, values: measured.append(step) if len(log.measured) else None],
        )
        rank = FeatureRank(lambda: tf.zeros((2, 4, 4, 3)), every_steps=5)
        see = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: (
                ranked.append(logs["step"]) if "feature_rank" in logs else None
            )
        )
        task = compiled_square()
        task.encoder = types.SimpleNamespace(backbone=lambda images, training: images)
        train(
            task,
            tf.data.Dataset.from_tensors({"x": [1.0]}).repeat(),
            strategy=tf.distribute.get_strategy(),
            epochs=2,
            steps_per_epoch=8,
            batch_size=1,
            callbacks=[rank, log, see],
            log_every_steps=8,
            steps_per_execution=4,
        )
        self.assertEqual(measured, [6, 12])
        self.assertEqual(ranked, [5, 10, 15])

    @parameterized.parameters("steps_per_epoch", "log_every_steps", "steps_per_execution")
    def test_numbers_of_steps_are_positive(self, name):
        arguments = {"epochs": 1, "steps_per_epoch": 4, "batch_size": 1} | {name: 0}
        with self.assertRaisesRegex(ValueError, f"`{name}` must be at least 1"):
            train(compiled_square(), [], strategy=tf.distribute.get_strategy(), **arguments)

    @parameterized.parameters((1, 5), (4, 8))
    def test_batches_that_end_too_early_are_refused(self, steps_per_execution, missing):
        message = f"`batches` must not end before step 8. Received: none for step {missing}."
        with self.assertRaisesRegex(ValueError, message):
            train(
                compiled_square(),
                tf.data.Dataset.from_tensors({"x": [1.0]}).repeat(4),
                strategy=tf.distribute.get_strategy(),
                epochs=2,
                steps_per_epoch=4,
                batch_size=1,
                steps_per_execution=steps_per_execution,
            )

    def _halves(self, first):
        for batch in batches(first):
            for half in (slice(0, BATCH // 2), slice(BATCH // 2, None)):
                yield {k: v[half] for k, v in batch.items()}

    def _signature(self, parts=2):
        return {
            k: tf.TensorSpec((BATCH // parts, *v.shape[1:]), v.dtype)
            for k, v in random_batch(BATCH).items()
        }


if __name__ == "__main__":
    tf.test.main()
