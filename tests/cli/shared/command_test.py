import importlib
import logging
import pathlib
import pkgutil

from absl.testing import parameterized

from pixpro_keras import cli
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


class UsageTest(parameterized.TestCase):
    @parameterized.parameters(*COMMANDS)
    def test_usage_keeps_its_line_breaks(self, name):
        usage = importlib.import_module(f"pixpro_keras.cli.{name}").__doc__
        for line in usage.splitlines():
            self.assertLessEqual(len(line), 110)
            self.assertNotRegex(line, r"\S {3,}\S")  # a line that went on in the next


if __name__ == "__main__":
    from absl.testing import absltest

    absltest.main()
