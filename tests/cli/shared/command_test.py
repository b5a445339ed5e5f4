import contextlib
import dataclasses
import importlib
import io
import pathlib
import pkgutil
import signal
import sys
from unittest import mock

from absl.testing import absltest, parameterized

from pixpro_keras import cli
from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.shared import command

COMMANDS = [module.name for module in pkgutil.iter_modules(cli.__path__) if not module.ispkg]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoOptions(Options):
    """Two options."""

    train: str = option("all", "Training images.")
    workdir: str = option("runs/x", "Folder.")


class RunTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        self.addCleanup(setattr, sys, "unraisablehook", sys.unraisablehook)

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
