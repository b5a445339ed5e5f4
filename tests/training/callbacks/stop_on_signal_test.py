import os
import signal
import sys
from unittest import mock

import tensorflow as tf

from pixpro_keras.task import Task
from pixpro_keras.training.callbacks import StopOnSignal
from pixpro_keras.training.callbacks.stop_on_signal import exit_code_of


class StopOnSignalTest(tf.test.TestCase):
    def begin(self):
        stop = StopOnSignal()
        stop.set_model(Task())
        stop.model.stop_training = False
        stop.on_train_begin()
        return stop

    def test_ends_after_the_step(self):
        before = signal.getsignal(signal.SIGTERM)
        for number, code in ((signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)):
            stop = self.begin()
            stop.on_train_batch_end(0)
            self.assertFalse(stop.model.stop_training)
            os.kill(os.getpid(), number)
            stop.on_train_batch_end(1)
            self.assertTrue(stop.model.stop_training)
            stop.on_train_end()
            self.assertEqual(exit_code_of(stop.received), code)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_a_signal_ends_one_training_only(self):
        stop = self.begin()
        os.kill(os.getpid(), signal.SIGTERM)
        stop.on_train_end()
        stop.on_train_begin()
        stop.on_train_batch_end(0)
        stop.on_train_end()
        self.assertFalse(stop.model.stop_training)

    def test_handlers_are_restored_after_a_training_that_followed_an_error(self):
        before = signal.getsignal(signal.SIGTERM)
        stop = self.begin()
        stop.on_train_begin()  # The first training had no `on_train_end`.
        stop.on_train_end()
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)

    def test_the_second_one_ends_at_once(self):
        child = os.fork()
        if child == 0:
            self.begin()
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), -signal.SIGINT)

    @mock.patch.object(sys, "ps1", "In : ", create=True)  # as in a notebook
    def test_the_second_one_does_not_end_a_notebook(self):
        # A shell starts jobs in the background with SIGINT ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        stop = self.begin()
        os.kill(os.getpid(), signal.SIGINT)
        with self.assertRaises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        stop.restore_handlers()
        self.assertEqual(stop.received, signal.SIGINT)


if __name__ == "__main__":
    tf.test.main()
