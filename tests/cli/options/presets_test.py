"""Flag files by path and presets by name."""

import os
import pathlib
import shutil
import tempfile
import unittest
from unittest import mock

from pixpro_keras.cli.options import presets
from pixpro_keras.cli.options.option_fields import FlagError
from tests.helpers.jobs import ROOT


class PresetsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def error(self, flag):
        with self.assertRaises(FlagError) as context:
            presets.expand([flag])
        return str(context.exception)

    def test_a_preset_and_its_base_by_any_name(self):
        for name in (
            "pixpro_r50_400ep.cfg",
            "pretrain/pixpro_r50_400ep.cfg",
            "experiments/configs/pretrain/pixpro_r50_400ep.cfg",
            str(ROOT / "experiments/configs/pretrain/pixpro_r50_400ep.cfg"),
        ):
            argv = presets.expand(
                ["job", "--seed=1", f"--flagfile={name}", "--seed=2", "--", "--x"]
            )
            self.assertEqual(argv[:2], ["job", "--seed=1"])
            self.assertEqual(argv[-3:], ["--seed=2", "--", "--x"])
            epochs = [line for line in argv if line.startswith("--epochs=")]
            self.assertEqual(epochs, ["--epochs=100", "--epochs=400"])  # the base's comes first
            self.assertEqual(
                argv, presets.expand(["job", "--seed=1", "--flagfile", name, *argv[-3:]])
            )

    def test_a_preset_of_the_wheel_finds_its_base(self):
        configs = self.folder / "site-packages" / "pixpro_keras" / "configs"
        shutil.copytree(ROOT / "experiments" / "configs", configs)
        with mock.patch.object(presets, "CONFIGS", configs):
            for preset in configs.rglob("*.cfg"):
                self.assertNotIn("--flagfile", presets.expand([f"--flagfile={preset.name}"]))
            argv = presets.expand(["--flagfile=pixpro_r50_400ep.cfg"])
        self.assertIn("--epochs=100", argv)  # the base's

    def test_a_file_goes_before_a_preset(self):
        (self.folder / "quickstart.cfg").write_text(
            "# mine\n\n  --seed=3\n// more\n--flagfile=b.cfg\n"
        )
        (self.folder / "b.cfg").write_text("--epochs=7")
        self.assertEqual(presets.expand(["--flagfile=quickstart.cfg"]), ["--seed=3", "--epochs=7"])

    def test_what_cannot_be_read(self):
        for name in ("", "nothing.cfg", "start.cfg", "/pretrain/quickstart.cfg", "pretrain"):
            self.assertIn(
                f"--flagfile={name}: no such file, and no preset",
                self.error(f"--flagfile={name}"),
            )
        self.assertIn(
            "--flagfile=pixpro_smal: no such file, and no preset; did you mean pixpro_small.cfg",
            self.error("--flagfile=pixpro_smal"),
        )
        (self.folder / "a.cfg").write_text("--flagfile=b.cfg")
        (self.folder / "b.cfg").write_text("--flagfile=a.cfg")
        self.assertIn("includes itself", self.error("--flagfile=a.cfg"))
        (self.folder / "b.cfg").write_bytes(b"\xff")
        self.assertRegex(self.error("--flagfile=b.cfg"), "--flagfile=b.cfg: .*utf-8")

    def test_names_are_unambiguous(self):
        names = [path.name for path in (ROOT / "experiments" / "configs").rglob("*.cfg")]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()
