import contextlib
import io
import pathlib
import tempfile

from absl.testing import parameterized

from pixpro_keras.cli import convert, embed, knn, visualize
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.option_fields import FlagError, option_fields
from tests.cli.options.option_fields_test import Shape, Square


class ParsingTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_flags_become_options_and_flags_again(self):
        argv = ["--sides=5", "--size=2.5", "--nois_filled", "--corners=a,b", "--name=x"]
        options, rest = parsing.parse(Shape, argv)
        self.assertEqual((options.sides, options.size, options.is_filled), (5, 2.5, False))
        self.assertEqual((options.corners, options.name, rest), (("a", "b"), "x", []))
        self.assertEqual(options.given, {"sides", "size", "is_filled", "corners", "name"})
        lines = parsing.serialize(options)
        self.assertIn("--color=red", lines)
        self.assertNotIn("--share", " ".join(lines))  # None has no flag
        again, _ = parsing.parse(Shape, lines)
        self.assertEqual(again.replace(given=options.given), options)

    @parameterized.parameters(
        ("--sides=x", "sides"),
        ("--sides=2", "--sides=2: must be at least 3"),
        ("--color=green", "color"),
        ("--size", "size"),
        ("--bigness=3", "bigness"),
    )
    def test_wrong_flags_are_named(self, flag, named):
        with self.assertRaisesRegex(FlagError, named):
            parsing.parse(Shape, [flag])

    @parameterized.parameters(
        ("--sids=5", "--sids: there is no such flag; did you mean --sides?"),
        ("--corner=a", "did you mean --corners?"),
        ("--is-filled", "--is-filled: .* did you mean --is_filled?"),
        ("--nois_fild", "did you mean --is_filled?"),
        ("--xyz=1", "--xyz: there is no such flag; --help lists all flags"),
    )
    def test_unknown_flags_get_a_suggestion(self, flag, message):
        with self.assertRaisesRegex(FlagError, message):
            parsing.parse(Shape, [flag])

    def test_commands_do_not_share_flags(self):
        one, _ = parsing.parse(Shape, ["--sides=5"])
        other, _ = parsing.parse(Square, [])
        self.assertEqual((one.sides, other.sides), (5, 4))

    def test_a_flag_file_with_flags_of_another_command(self):
        file = self.folder / "flags.cfg"
        file.write_text("--sides=5\n--epochs=3\n")
        self.assertEqual(parsing.load(Shape, file).sides, 5)
        file.write_text("--sides=1\n")
        with self.assertRaisesRegex(FlagError, f"^{file}: --sides=1: must be at least 3$"):
            parsing.load(Shape, file)

    def test_the_flag_file_of_a_run_repeats_it(self):
        options = Shape.make(sides=5, name="x")
        with self.assertNoLogs(level="WARNING"):
            parsing.write_flags(options, self.folder, but=["size"])
        text = (self.folder / "flags.cfg").read_text()
        self.assertEqual(text.splitlines(), sorted(text.splitlines()))
        self.assertNotIn("--size", text)
        self.assertEqual(parsing.load(Shape, self.folder / "flags.cfg").sides, 5)
        with self.assertLogs(level="WARNING") as logs:
            parsing.write_flags(options.replace(sides=6), self.folder, but=["size"])
        self.assertIn("was --sides=5, is --sides=6", logs.output[0])

    def test_help_lists_every_flag_once_by_group(self):
        text = parsing.help_text(Square, "Draws squares.")
        self.assertTrue(text.startswith("Draws squares.\n\nOptions of a square.\n"))
        self.assertIn("--sides\n    Number of sides. (default: 4)", text)
        self.assertIn("--[no]is_filled\n    Fill it. (default: true)", text)
        self.assertIn("--color <red|blue>", text)
        self.assertIn("Name. (required)", text)
        self.assertEqual(text.count("--sides"), 1)
        self.assertIn("--corners", parsing.help_text(Shape, "Draws shapes."))
        self.assertNotIn("--corners", text)  # A square has no use for them.

    def test_short_help_lists_own_and_main_flags(self):
        text = parsing.help_text(Square, "Draws squares.", only_main=True)
        self.assertIn("Options of a square.\n  --sides\n    Number of sides. (default: 4)", text)
        self.assertIn("--size\n    Side in pixels. (default: 1.0)", text)  # marked
        self.assertNotIn("--color", text)
        self.assertIn(f"--help lists all {len(option_fields(Square)) - 1}.", text)

    @parameterized.parameters(
        (embed.EmbedOptions, ("bn_momentum", "label_fraction", "workdir")),
        (knn.KnnOptions, ("bn_momentum",)),
        (convert.ConvertOptions, ("workdir", "cluster", "num_workers", "start_timeout_seconds")),
        (visualize.VisualizeOptions, ("label_fraction", "cluster", "worker_timeout_seconds")),
    )
    def test_help_is_silent_about_what_a_command_does_not_use(self, cls, names):
        text = parsing.help_text(cls, "")
        for name in names:
            self.assertNotIn(f"  --{name}\n", text)
        self.assertIn("  --precision <", text)

    @parameterized.parameters(("--helpshort", False), ("--help", True), ("-h", True))
    def test_help_flags(self, flag, with_all):
        output = io.StringIO()
        with contextlib.redirect_stdout(output), self.assertRaises(SystemExit):
            parsing.exit_after_help(["--sides=9", flag], Square, "Draws\nsquares.")
        self.assertTrue(output.getvalue().startswith("Draws\nsquares.\n\n"))
        self.assertEqual("--color" in output.getvalue(), with_all)


if __name__ == "__main__":
    from absl.testing import absltest

    absltest.main()
