import os
from unittest import mock

import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.training import strategy


class StrategyTest(tf.test.TestCase, parameterized.TestCase):
    def test_one_device(self):
        self.assertEqual(strategy.make_strategy("one_device").num_replicas_in_sync, 1)

    def test_mirrored_takes_all_logical_devices(self):
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        self.assertEqual(strategy.make_strategy("mirrored").num_replicas_in_sync, len(devices))

    def test_unknown_name(self):
        with self.assertRaisesRegex(ValueError, "one_device.*Received: 'horovod'"):
            strategy.make_strategy("horovod")

    def test_multi_worker_needs_its_machines(self):
        with (
            mock.patch.dict(os.environ, clear=True),
            self.assertRaisesRegex(ValueError, "TF_CONFIG"),
        ):
            strategy.make_strategy("multi_worker")

    @pytest.mark.slow
    def test_tpu_that_is_not_there(self):
        with self.assertRaisesRegex(ValueError, "found no TPU"):
            strategy.make_strategy("tpu")

    @parameterized.parameters((7, 1), (8, 3), (0, 1), (2, 2))
    def test_batch_must_divide(self, batch_size, accumulate_steps):
        mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        with self.assertRaisesRegex(ValueError, f"batch_size={batch_size}"):
            strategy.replica_batch_size(mirrored, batch_size, accumulate_steps)
        self.assertEqual(strategy.replica_batch_size(mirrored, 12, 3), 6)


if __name__ == "__main__":
    tf.test.main()
