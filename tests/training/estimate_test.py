import pathlib
import time

import numpy as np
import tensorflow as tf

from pixpro_keras.training.estimate import estimate_run
from pixpro_keras.training.run import open_checkpoints, run_training
from pixpro_keras.training.run_config import RunConfig
from tests.helpers.tiny_runs import compiled_square


class EstimateTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = pathlib.Path(self.create_tempdir().full_path)

    def test_an_estimate_counts_all_steps_and_writes_nothing(self):
        config = RunConfig(self.workdir / "run", epochs=10, steps_per_epoch=1000, batch_size=2)
        data = tf.data.Dataset.from_tensors({"x": [1.0, 2.0]}).repeat()
        found = estimate_run(compiled_square(), lambda context: data, config)
        self.assertEqual(found["parameters"], 1)
        self.assertAllClose(found["hours"] * 3600, 20_000 / found["images_per_second"])
        self.assertGreater(found["memory_mib"], 0)
        self.assertFalse((self.workdir / "run").exists())

    def test_an_estimate_counts_no_batches_that_were_prepared_while_tracing(self):
        config = RunConfig(self.workdir / "run", epochs=1, steps_per_epoch=1000, batch_size=2)

        def prepare(number):
            time.sleep(0.2)
            return np.float32([number, 2.0])

        def prepared(number):
            return {"x": tf.ensure_shape(tf.numpy_function(prepare, [number], tf.float32), (2,))}

        def traced_slowly(batch):
            time.sleep(1.0)
            return batch

        data = tf.data.Dataset.range(1000).map(prepared).prefetch(3)
        task = compiled_square()
        task.device_transform = traced_slowly
        found = estimate_run(task, lambda context: data, config)
        self.assertLess(found["images_per_second"], 1.2 * config.batch_size / 0.2)

    def test_an_estimate_of_a_run_that_continues_counts_the_steps_that_are_left(self):
        config = RunConfig(self.workdir, epochs=2, steps_per_epoch=3, batch_size=1)
        task = compiled_square()
        checkpoints, _ = open_checkpoints(task, config, {"model": "square"}, recipe={"seed": 0})
        data = tf.data.Dataset.from_tensors({"x": [1.0]}).repeat()
        run_training(task, lambda context: data, config, checkpoints)
        before = {path: path.read_bytes() for path in self.workdir.rglob("*") if path.is_file()}
        config = RunConfig(self.workdir, epochs=5, steps_per_epoch=3, batch_size=2)
        task = compiled_square()
        _, first_step = open_checkpoints(
            task, config, {"model": "square"}, recipe={"seed": 0}, read_only=True
        )
        data = tf.data.Dataset.from_tensors({"x": [1.0, 2.0]}).repeat()
        found = estimate_run(task, lambda context: data, config)
        self.assertEqual(first_step, 6)
        self.assertAllClose(found["hours"] * 3600, 9 * 2 / found["images_per_second"])
        after = {path: path.read_bytes() for path in self.workdir.rglob("*") if path.is_file()}
        self.assertEqual(after, before)


if __name__ == "__main__":
    tf.test.main()
