import dataclasses

from absl.testing import absltest

from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from tests.cli.options.option_fields_test import Square


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoOptions(Options):
    """Two options."""

    train: str = option("all", "Training images.")
    workdir: str = option("runs/x", "Folder.")


class FlagErrorsTest(absltest.TestCase):
    def message(self, options):
        with (
            self.assertRaises(FlagError) as refused,
            flag_errors(options, "train", "workdir"),
        ):
            raise ValueError("no")
        return str(refused.exception)

    def test_what_was_given_is_named(self):
        self.assertEqual(self.message(TwoOptions.make(train="a")), "--train=a: no")
        self.assertEqual(self.message(TwoOptions()), "--train=all --workdir=runs/x: no")

    def test_what_a_command_never_uses_is_refused_but_not_in_a_flag_file(self):
        options = Square.make(corners=["a"], name="x", sides=5)
        with self.assertRaisesWithLiteralMatch(FlagError, "--corners=a: they have no names"):
            refuse_unused(options)
        with self.assertRaisesWithLiteralMatch(FlagError, "--sides=5: no"):
            refuse_unused(options, {"sides": "no"})
        with self.assertLogs("absl", "WARNING") as logs:
            refuse_unused(options.replace(from_files=frozenset(["corners"])))
        self.assertIn("--corners=a: they have no names. The flag file", logs.output[0])


if __name__ == "__main__":
    absltest.main()
