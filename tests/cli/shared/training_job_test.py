import pathlib

import tensorflow as tf

from pixpro_keras.cli.linear_probe import LinearProbeOptions
from pixpro_keras.cli.options.detect_options import DetectOptions
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

    def test_flags_of_the_optimizer_are_checked_before_the_data(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        options = TrainingJobOptions.make(
            optimizer="adamw", sgd_momentum=0.5, workdir=str(folder / "run")
        )
        with (
            self.assertRaisesRegex(FlagError, "^--sgd_momentum=0.5: --optimizer=adamw has no"),
            training_job.start(options),
        ):
            pass
        self.assertEmpty(list(folder.iterdir()))

    def test_folders_of_images_are_no_workdir(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        (folder / "train" / "cat").mkdir(parents=True)
        (folder / "train" / "cat" / "a.jpg").touch()
        for job, flag in ((DetectOptions, "dataset"), (LinearProbeOptions, "train_dataset")):
            for inside in ("", "train", "train/cat"):
                options = job.make(**{flag: f"folder:{folder}"}, workdir=str(folder / inside))
                with (
                    self.assertRaisesRegex(
                        FlagError, f"^--workdir=.*: holds the images of --{flag}"
                    ),
                    training_job.start(options),
                ):
                    pass
        options = DetectOptions.make(dataset=f"coco:{folder}", workdir=str(folder / "run"))
        for _ in range(2):  # anew, and in the folder of a run with pictures
            with training_job.start(options) as job:
                (job.workdir / "flags.cfg").touch()
                (job.workdir / "picture.png").touch()


if __name__ == "__main__":
    tf.test.main()
