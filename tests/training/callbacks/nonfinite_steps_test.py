import pathlib

import numpy as np
import tensorflow as tf

from pixpro_keras.training.callbacks import (
    CollapseWarning,
    NonfiniteSteps,
    RunLog,
    TrainingDivergedError,
)
from pixpro_keras.training.loop import train
from tests.helpers.files import read_metrics
from tests.helpers.tiny_runs import compiled_square


class NonfiniteStepsTest(tf.test.TestCase):
    """Twelve steps in epochs of four; what is bad is skipped, told and, if it goes on, ended."""

    def run_with(self, bad, max_in_row, folder, log_every_steps=2):
        model = compiled_square()
        batches = [{"x": tf.constant([np.nan if s in bad else 1.0])} for s in range(12)]
        callbacks = [
            NonfiniteSteps(max_in_row, folder, lambda step: [f"a{step}.jpg", "b\udcff\u00e9.jpg"]),
            CollapseWarning(),
            RunLog(folder, 4, 1, model.loss_bounds),
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
        by_step = {line["step"]: line for line in read_metrics(folder)}
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

    def test_a_training_without_a_sound_step_ends_with_an_error(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        with self.assertRaisesRegex(TrainingDivergedError, "last 12 steps up to step 12"):
            self.run_with(set(range(12)), 100, folder)
        self.run_with(set(range(11)), 100, folder)  # The last one is sound.


if __name__ == "__main__":
    tf.test.main()
