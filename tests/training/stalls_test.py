import threading
from unittest import mock

import tensorflow as tf
from absl import logging

from pixpro_keras.training.loop import train
from tests.helpers.tiny_runs import compiled_square


class StallTest(tf.test.TestCase):
    def test_input_that_stalls_is_told_while_it_does(self):
        model = compiled_square()
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
