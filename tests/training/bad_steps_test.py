"""Steps whose loss or gradients are not finite."""

import json
import pathlib
import threading
from typing import ClassVar
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.task import Task
from pixpro_keras.training import callbacks as run_callbacks
from pixpro_keras.training.bad_steps import BadSteps, TrainingDivergedError
from pixpro_keras.training.loop import train
from tests.helpers.replicas import per_replica, two_cpus
from tests.helpers.steps import build, scalars, traced_step
from tests.helpers.tiny_networks import random_batch


def poison(batch, image=0):
    """The batch with one pixel that is no number."""
    view = batch["view1"].copy()
    view[image, 0, 0, 0] = np.nan
    return batch | {"view1": view}


def values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


class Tiny(Task):
    """A square; the batch is a dict of one number."""

    loss_bounds: ClassVar = {"square": (0.0, None)}

    def __init__(self):
        super().__init__()
        self.slope = self.add_weight(name="slope", shape=(), initializer="ones")

    def call(self, batch, training=False):
        return {"square": keras.ops.mean(keras.ops.square(self.slope * batch["x"]))}


class SkipTest(tf.test.TestCase):
    def tearDown(self):
        keras.mixed_precision.set_global_policy("float32")
        super().tearDown()

    def check(self, model, step, batches, strategy=None):
        """Good, bad, good: the bad one leaves everything but target and step as it was."""
        good, bad, last = batches
        self.assertEqual(scalars(step(good), strategy)["bad_steps"], 0)
        moving = {id(v) for v in model.target_encoder.weights}
        kept = [v for v in model.weights if v is not model.step and id(v) not in moving]
        before = values(kept), values(model.optimizer.variables)
        logs = scalars(step(bad), strategy)
        self.assertEqual(logs["bad_steps"], 1)
        self.assertEqual(model.steps_done(), 2)
        is_scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
        after = values(kept), values(model.optimizer.variables)
        for variable, one, two in zip(kept, before[0], after[0], strict=True):
            self.assertAllEqual(one, two, msg=variable.path)
        if not is_scaled:
            for one, two in zip(before[1], after[1], strict=True):
                self.assertAllEqual(one, two)
        for value in values(model.weights):
            self.assertTrue(np.isfinite(value).all())
        logs = scalars(step(last), strategy)
        self.assertEqual(logs["bad_steps"], 0)
        self.assertTrue(np.isfinite(logs["loss"]))
        self.assertEqual(logs["updates"], 2)

    def test_changes_nothing(self):
        model = build("pixpro", instance_weight=1.0)
        batches = [random_batch(seed=seed) for seed in range(3)]
        batches[1] = poison(batches[1])
        self.check(model, traced_step(model), batches)

    def test_with_a_loss_scale(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        model = build()
        model.optimizer.dynamic_scale.assign(64.0)
        batches = [random_batch(seed=seed) for seed in range(3)]
        batches[1] = poison(batches[1])
        self.check(model, traced_step(model), batches)
        # A scale that is too high is found by trying, and nothing bad.
        model.optimizer.dynamic_scale.assign(2.0**100)
        logs = scalars(traced_step(model)(batches[0]))
        self.assertEqual((logs["bad_steps"], logs["updates"]), (0, 2))
        self.assertAllEqual(model.optimizer.dynamic_scale, 2.0**99)

    def test_on_both_replicas_when_one_sees_it(self):
        strategy = two_cpus()
        with strategy.scope():
            model = build("densecl", synchronized=False, queue_size=16)
        batches = [random_batch(seed=seed) for seed in range(3)]
        batches[1] = poison(batches[1], image=7)
        batches = [per_replica(strategy, batch) for batch in batches]
        self.check(model, traced_step(model, strategy), batches, strategy)
        for variable in model.trainable_variables:
            one, two = strategy.experimental_local_results(variable.value)
            self.assertAllEqual(one, two)


class LoopTest(tf.test.TestCase):
    """Twelve steps in epochs of four; what is bad is skipped, told and, if it goes on, ended."""

    def run_with(self, bad, max_in_row, folder, log_every_steps=2):
        model = Tiny()
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        batches = [{"x": tf.constant([np.nan if s in bad else 1.0])} for s in range(12)]
        callbacks = [
            BadSteps(max_in_row, folder, lambda step: [f"a{step}.jpg", "b\udcff\u00e9.jpg"]),
            run_callbacks.VitalSigns(),
            run_callbacks.RunLog(folder, 4, 1, model.loss_bounds),
        ]
        train(
            model,
            batches,
            strategy=tf.distribute.get_strategy(),
            epochs=3,
            steps_per_epoch=4,
            batch_size=1,
            callbacks=callbacks,
            log_every_steps=log_every_steps,
        )
        return model

    def test_counts_and_goes_on(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        with self.assertLogs("absl", "WARNING") as logs:
            model = self.run_with({1, 4, 5, 6}, 4, folder)
        self.assertEqual(model.steps_done(), 12)
        self.assertAllEqual(model.optimizer.iterations, 8)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        by_step = {line["step"]: line for line in lines}
        self.assertEqual([by_step[s]["bad_steps"] for s in (1, 2, 6, 8, 12)], [0, 1, 3, 4, 4])
        self.assertIsNone(by_step[6]["loss"])  # both steps of the window were skipped
        self.assertTrue(np.isfinite(by_step[8]["loss"]))
        self.assertLen(logs.output, 3)
        self.assertIn("Skipped 2 step(s) up to step 6", logs.output[1])

    def test_ends_and_names_the_images(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        with self.assertRaisesRegex(TrainingDivergedError, r"last 3 steps up to step 8.*\.tsv"):
            self.run_with({1, 5, 6, 7, 8, 9}, 3, folder)
        lines = (folder / "bad_batches.tsv").read_bytes().split(b"\n")
        self.assertEqual(lines[0], b"6\ta5.jpg")
        self.assertEqual(lines[1], b"6\tb\xff\xc3\xa9.jpg")
        self.assertEqual([line[:1] for line in lines], [b"6", b"6", b"7", b"7", b"8", b"8", b""])

    def test_input_that_stalls_is_told_while_it_does(self):
        model = Tiny()
        model.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        warned = threading.Event()

        def batches():
            yield {"x": tf.constant([1.0])}
            self.assertTrue(warned.wait(60))  # it comes only when the wait has been complained of
            yield {"x": tf.constant([1.0])}

        def warn(text, step, seconds):
            self.assertIn("Waiting for the images of step %d", text)
            self.assertGreaterEqual(seconds, 0.01)
            if step == 2:
                warned.set()

        with mock.patch.object(logging, "warning", warn):
            train(
                model,
                batches(),
                strategy=tf.distribute.get_strategy(),
                epochs=1,
                steps_per_epoch=2,
                batch_size=1,
                stall_seconds=0.01,
            )
        self.assertTrue(warned.is_set())


if __name__ == "__main__":
    tf.test.main()
