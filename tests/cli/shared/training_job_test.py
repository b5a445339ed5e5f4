import pathlib
from unittest import mock

import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.cli.shared import training_job
from tests.helpers.tiny_runs import compiled_square


class StartTest(tf.test.TestCase):
    def test_xla_is_for_one_replica(self):
        folder = self.create_tempdir().full_path
        options = TrainingJobOptions.make(
            jit_compile=True, strategy="mirrored", precision="float32", workdir=f"{folder}/run"
        )
        with (
            self.assertRaisesRegex(FlagError, "^--jit_compile: .*2 replicas.*one_device"),
            training_job.start(options),
        ):
            pass
        with training_job.start(options.replace(strategy="one_device")) as job:
            self.assertEqual(job.strategy.num_replicas_in_sync, 1)


class OpenCheckpointsTest(tf.test.TestCase):
    def test_workers_with_other_images_are_refused(self):
        options = TrainingJobOptions.make(strategy="multi_worker", epochs=1, steps_per_epoch=3)
        task = compiled_square()
        config = training_job.run_config(options, pathlib.Path(self.create_tempdir().full_path))
        arguments = options, config, tf.distribute.get_strategy(), task, {"model": "square"}, 12
        counts = mock.patch.object(training_job, "gather", return_value=np.array([12.0, 13.0]))
        with counts, self.assertRaisesRegex(FlagError, "^--strategy=multi_worker: .* 12, 13;"):
            training_job.open_checkpoints(*arguments)
        self.assertEqual(training_job.open_checkpoints(*arguments)[1], 0)


if __name__ == "__main__":
    tf.test.main()
