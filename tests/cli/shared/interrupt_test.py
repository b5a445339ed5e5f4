import contextlib
import ctypes
import io
import signal
import sys
import time
import weakref

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from pixpro_keras.cli.shared.interrupt import Interrupt


class InterruptTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        before = signal.getsignal(signal.SIGINT)
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        interrupt = Interrupt()
        interrupt.install()
        self.addCleanup(signal.signal, signal.SIGINT, before)
        self.addCleanup(interrupt.remove)

    def test_a_signal_in_a_destructor_comes_after_it(self):
        done = []

        class Held:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)
                done.append("destructor")

        held = Held()
        with self.assertRaises(KeyboardInterrupt):
            del held
            done.append("after it")
            time.sleep(10)
        self.assertEqual(done, ["destructor", "after it"])

    def test_a_signal_in_a_callback_of_a_reference_comes_after_it(self):
        done = []

        def call():
            signal.raise_signal(signal.SIGINT)
            done.append("callback")

        class Held:
            pass

        held = Held()
        weakref.finalize(held, call)
        with self.assertRaises(KeyboardInterrupt):
            del held
            done.append("after it")
            time.sleep(10)
        self.assertEqual(done, ["callback", "after it"])

    def test_a_signal_in_a_function_that_tensorflow_calls_comes_after_it(self):
        done = []

        def call():
            signal.raise_signal(signal.SIGINT)
            return np.float32(len(done))

        with self.assertRaises(KeyboardInterrupt):
            done.append(tf.numpy_function(call, [], tf.float32).numpy())
            time.sleep(10)
        self.assertEqual(done, [0.0])

    def test_what_c_code_ignores_of_it_is_not_shown(self):
        def ignore(error):
            """Raises it where C calls Python and can do nothing with it."""

            @ctypes.CFUNCTYPE(None)
            def call():
                raise error

            with contextlib.redirect_stderr(io.StringIO()) as shown:
                call()
            return shown.getvalue()

        self.assertIn("SystemError: of something else", ignore(SystemError("of something else")))
        with self.assertRaises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        self.assertEqual(ignore(SystemError("an exception is set")), "")
        self.assertEqual(ignore(KeyboardInterrupt()), "")
        self.assertIn("ValueError: of a user", ignore(ValueError("of a user")))

    def test_elsewhere_it_comes_at_once_and_again_where_nothing_came_of_it(self):
        begin = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        self.assertLess(time.monotonic() - begin, 1)
        with self.assertRaises(KeyboardInterrupt):
            time.sleep(10)
        self.assertLess(time.monotonic() - begin, 6)


if __name__ == "__main__":
    absltest.main()
