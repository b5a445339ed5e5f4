import contextlib
import io
import logging
import pathlib
import sys
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized
from tqdm import tqdm

from pixpro_keras.cli.shared import log


def record(level, path):
    return logging.LogRecord("absl", level, str(path), 1, "said %s", ("this",), None)


class LogTest(parameterized.TestCase):
    @parameterized.parameters(
        (logging.INFO, "said this"),
        (logging.WARNING, "WARNING: said this"),
        (logging.ERROR, "ERROR: said this"),
    )
    def test_warnings_stand_out(self, level, text):
        self.assertEqual(log.LogFormatter().format(record(level, __file__)), text)

    @parameterized.parameters(
        ("pixpro_keras", logging.INFO, True),
        ("tensorflow/python/checkpoint", logging.INFO, False),  # "Sharding callback duration"
        ("tensorflow_datasets/core", logging.INFO, False),
        ("tensorflow/python", logging.WARNING, True),
    )
    def test_of_other_packages_only_warnings(self, package, level, is_shown):
        root = pathlib.Path(log.__file__).parents[3]
        path = root / package / "x.py"
        self.assertEqual(log.OwnLines().filter(record(level, path)), is_shown)

    def test_advice_on_code_of_this_package_is_not_shown(self):
        path = pathlib.Path(tf.__file__)
        text = "5 out of the last 5 calls to <function run> triggered tf.function retracing. ..."
        advice = logging.LogRecord("tensorflow", logging.WARNING, str(path), 1, text, (), None)
        self.assertFalse(log.OwnLines().filter(advice))

    def test_a_line_with_wrong_arguments_does_not_end_the_command(self):
        wrong = logging.LogRecord("other", logging.WARNING, "/x.py", 1, "%d", ("a",), None)
        self.assertTrue(log.OwnLines().filter(wrong))

    def test_lines_of_tensorflow_are_shown_once(self):
        logger = logging.getLogger("tensorflow")
        with (
            mock.patch.object(logger, "handlers", [logging.StreamHandler()]),
            mock.patch.object(log.logging, "use_absl_handler"),
            mock.patch.object(log.flags.FLAGS["verbosity"], "using_default_value", False),
        ):
            log.set_up_log()
            self.assertEmpty(logger.handlers)

    def test_a_line_does_not_stand_behind_a_bar(self):
        with (
            contextlib.redirect_stderr(io.StringIO()) as output,
            tqdm(total=3, desc="reading", file=sys.stderr),
        ):
            emit = log._between_bars(lambda record: print(record.getMessage(), file=sys.stderr))
            emit(record(logging.WARNING, __file__))
        self.assertRegex(output.getvalue(), r"reading: .*\r *\rsaid this\n\rreading: ")


if __name__ == "__main__":
    absltest.main()
