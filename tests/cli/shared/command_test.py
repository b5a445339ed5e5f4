import contextlib
import ctypes
import dataclasses
import importlib
import io
import logging
import pathlib
import pkgutil
import signal
import sys
import time
import weakref
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from tqdm import tqdm

from pixpro_keras import cli
from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.shared import command

COMMANDS = [module.name for module in pkgutil.iter_modules(cli.__path__) if not module.ispkg]


def record(level, path):
    return logging.LogRecord("absl", level, str(path), 1, "said %s", ("this",), None)


class LogTest(parameterized.TestCase):
    @parameterized.parameters(
        (logging.INFO, "said this"),
        (logging.WARNING, "WARNING: said this"),
        (logging.ERROR, "ERROR: said this"),
    )
    def test_warnings_stand_out(self, level, text):
        self.assertEqual(command.LogFormatter().format(record(level, __file__)), text)

    @parameterized.parameters(
        ("pixpro_keras", logging.INFO, True),
        ("tensorflow/python/checkpoint", logging.INFO, False),  # "Sharding callback duration"
        ("tensorflow_datasets/core", logging.INFO, False),
        ("tensorflow/python", logging.WARNING, True),
    )
    def test_of_other_packages_only_warnings(self, package, level, is_shown):
        root = pathlib.Path(command.__file__).parents[3]
        path = root / package / "x.py"
        self.assertEqual(command.OwnLines().filter(record(level, path)), is_shown)

    def test_advice_on_code_of_this_package_is_not_shown(self):
        path = pathlib.Path(tf.__file__)
        text = "5 out of the last 5 calls to <function run> triggered tf.function retracing. ..."
        advice = logging.LogRecord("tensorflow", logging.WARNING, str(path), 1, text, (), None)
        self.assertFalse(command.OwnLines().filter(advice))

    def test_a_line_with_wrong_arguments_does_not_end_the_command(self):
        wrong = logging.LogRecord("other", logging.WARNING, "/x.py", 1, "%d", ("a",), None)
        self.assertTrue(command.OwnLines().filter(wrong))

    def test_lines_of_tensorflow_are_shown_once(self):
        logger = logging.getLogger("tensorflow")
        with (
            mock.patch.object(logger, "handlers", [logging.StreamHandler()]),
            mock.patch.object(command.logging, "use_absl_handler"),
            mock.patch.object(command.flags.FLAGS["verbosity"], "using_default_value", False),
        ):
            command.set_up_log()
            self.assertEmpty(logger.handlers)

    def test_a_line_does_not_stand_behind_a_bar(self):
        with (
            contextlib.redirect_stderr(io.StringIO()) as output,
            tqdm(total=3, desc="reading", file=sys.stderr),
        ):
            emit = command._between_bars(lambda record: print(record.getMessage(), file=sys.stderr))
            emit(record(logging.WARNING, __file__))
        self.assertRegex(output.getvalue(), r"reading: .*\r *\rsaid this\n\rreading: ")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoOptions(Options):
    """Two options."""

    train: str = option("all", "Training images.")
    workdir: str = option("runs/x", "Folder.")


class InterruptTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        before = signal.getsignal(signal.SIGINT)
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)
        interrupt = command.Interrupt()
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

    def run_command(self, function):
        with (
            mock.patch.object(sys, "argv", ["job"]),
            # They are for the whole process.
            mock.patch.object(command, "set_up_log"),
            mock.patch.object(command.faulthandler, "enable"),
            contextlib.redirect_stderr(io.StringIO()) as output,
            self.assertRaises((SystemExit, SystemError)) as ended,
        ):
            command.run(TwoOptions, function, "Does nothing.")
        return getattr(ended.exception, "code", None), output.getvalue()

    def test_an_error_that_came_of_it_is_no_error(self):
        def convert(options):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise SystemError("a function returned a result with an exception set") from error

        self.assertEqual(self.run_command(convert), (130, "Interrupted.\n"))

    def test_other_errors_stay(self):
        def fail(options):
            raise FlagError("--train=b: no")

        self.assertEqual(self.run_command(fail), (1, "error: --train=b: no\n"))
        self.assertEqual(self.run_command(mock.Mock(side_effect=SystemError)), (None, ""))


class FlagErrorsTest(absltest.TestCase):
    def message(self, options):
        with (
            self.assertRaises(FlagError) as refused,
            command.flag_errors(options, "train", "workdir"),
        ):
            raise ValueError("no")
        return str(refused.exception)

    def test_what_was_given_is_named(self):
        self.assertEqual(self.message(TwoOptions.make(train="a")), "--train=a: no")
        self.assertEqual(self.message(TwoOptions()), "--train=all --workdir=runs/x: no")


class WorkdirTest(absltest.TestCase):
    def test_a_job_that_fails_before_it_writes_leaves_nothing(self):
        root = pathlib.Path(self.create_tempdir().full_path)
        path = str(root / "runs" / "one")
        with (
            self.assertRaises(FlagError),
            command.prepare_workdir(TwoOptions.make(workdir=path), path) as workdir,
        ):
            self.assertTrue(workdir.is_dir())
            raise FlagError("--k=20: no")
        self.assertEqual(list(root.iterdir()), [])

    def test_what_cannot_be_a_folder_is_named(self):
        path = self.create_tempfile().full_path
        with (
            self.assertRaisesRegex(FlagError, f"^--workdir={path}: .*File exists"),
            command.prepare_workdir(TwoOptions.make(workdir=path), path),
        ):
            pass


class UsageTest(parameterized.TestCase):
    @parameterized.parameters(*COMMANDS)
    def test_usage_keeps_its_line_breaks(self, name):
        usage = importlib.import_module(f"pixpro_keras.cli.{name}").__doc__
        for line in usage.splitlines():
            self.assertLessEqual(len(line), 110)
            self.assertNotRegex(line, r"\S {3,}\S")  # a line that went on in the next


if __name__ == "__main__":
    absltest.main()
