import tensorflow as tf

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.cli.shared import training_job


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


if __name__ == "__main__":
    tf.test.main()
