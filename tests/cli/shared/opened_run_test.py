import pathlib
import signal
import types
from unittest import mock

import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.cli.shared import opened_run
from pixpro_keras.data.sources import Source
from pixpro_keras.training import workers
from pixpro_keras.training.run_config import RunResult
from tests.helpers.tiny_runs import compiled_square


class OpenCheckpointsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.gathered = []

    def open(self, others=None, fingerprint="", **values):
        """Opens a run whose second worker gathers the values `others`; returns this worker's."""
        values = {"epochs": 1, "steps_per_epoch": 3, "strategy": "multi_worker"} | values
        options = TrainingJobOptions.make(**values)
        config = opened_run.run_config(options, self.folder)
        images = Source("folder:photos", 12, lambda index: {}, str, fingerprint=fingerprint)
        mine = []

        def gather(strategy, value):
            mine.append(value)
            return np.array([value, others[len(mine) - 1] if others else value], "float64")

        strategy, task = tf.distribute.get_strategy(), compiled_square()
        with mock.patch.object(opened_run, "gather", gather):
            opened_run.open_checkpoints(
                options, config, strategy, task, {"model": "square"}, images
            )
        return mine

    def test_workers_of_the_same_command_are_taken(self):
        self.open(self.open(workdir="here"), workdir="there", keep_checkpoints=7)

    def test_workers_with_other_images_are_refused(self):
        with self.assertRaisesRegex(FlagError, "^--strategy=multi_worker: .* images, 12, 13;"):
            self.open([13, self.open()[1]])

    def test_workers_with_other_flags_are_refused(self):
        mine = self.open()
        for values in (
            {"batch_size": 64},
            {"epochs": 2},
            {"precision": "mixed_bfloat16"},
            {"log_every_steps": 3},
        ):
            with self.assertRaisesRegex(FlagError, "^--strategy=multi_worker: .* different flags"):
                self.open(mine, **values)

    def test_workers_with_as_many_other_images_are_refused(self):
        mine = self.open(fingerprint="1234")
        with self.assertRaisesRegex(FlagError, "different flags or images"):
            self.open(mine, fingerprint="5678")


class WriteAtEndTest(tf.test.TestCase):
    def test_the_chief_alone_writes_the_results_of_a_complete_run(self):
        job = types.SimpleNamespace(strategy=tf.distribute.get_strategy())
        complete, stopped = RunResult(steps=3), RunResult(steps=2, stop_signal=signal.SIGTERM)
        self.assertEqual(opened_run.write_at_end(job, complete, lambda: "file"), "file")
        for result in (stopped, RunResult(steps=0, is_dry_run=True)):
            self.assertIsNone(opened_run.write_at_end(job, result, self.fail))
        with mock.patch.object(workers, "is_chief", return_value=False):
            self.assertIsNone(opened_run.write_at_end(job, complete, self.fail))


if __name__ == "__main__":
    tf.test.main()
