import dataclasses

from absl.testing import absltest

from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, Options, option


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


if __name__ == "__main__":
    absltest.main()
