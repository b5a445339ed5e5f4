"""Flag files by path and presets by name. Needs no TensorFlow, so it asks a process of its own."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

from tests.helpers.jobs import ROOT

_EXPAND = """
import json, sys
sys.path.insert(0, sys.argv[1])
import presets
from absl import flags

try:
    print(json.dumps(presets.expand(sys.argv[2:])))
except flags.Error as error:
    print(json.dumps(str(error)))
"""


class PresetNamesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def expand(self, *argv):
        command = [sys.executable, "-c", _EXPAND, ROOT / "experiments", *argv]
        return json.loads(subprocess.check_output(command, cwd=self.folder))

    def test_a_preset_and_its_base_by_any_name(self):
        for name in (
            "pixpro_r50_400ep.cfg",
            "pretrain/pixpro_r50_400ep.cfg",
            "experiments/configs/pretrain/pixpro_r50_400ep.cfg",
            str(ROOT / "experiments/configs/pretrain/pixpro_r50_400ep.cfg"),
        ):
            argv = self.expand("job", "--seed=1", f"--flagfile={name}", "--seed=2", "--", "--x")
            self.assertEqual(argv[:2], ["job", "--seed=1"])
            self.assertEqual(argv[-3:], ["--seed=2", "--", "--x"])
            epochs = [line for line in argv if line.startswith("--epochs=")]
            self.assertEqual(epochs, ["--epochs=100", "--epochs=400"])  # the base's comes first
            self.assertEqual(
                argv, self.expand(*["job", "--seed=1", "--flagfile", name], *argv[-3:])
            )

    def test_a_file_goes_before_a_preset(self):
        (self.folder / "quickstart.cfg").write_text(
            "# mine\n\n  --seed=3\n// more\n--flagfile=b.cfg\n"
        )
        (self.folder / "b.cfg").write_text("--epochs=7")
        self.assertEqual(self.expand("--flagfile=quickstart.cfg"), ["--seed=3", "--epochs=7"])

    def test_what_cannot_be_read(self):
        for name in ("", "nothing.cfg", "start.cfg", "/pretrain/quickstart.cfg", "pretrain"):
            self.assertIn(
                f"--flagfile={name}: no such file, and no preset", self.expand(f"--flagfile={name}")
            )
        (self.folder / "a.cfg").write_text("--flagfile=b.cfg")
        (self.folder / "b.cfg").write_text("--flagfile=a.cfg")
        self.assertIn("includes itself", self.expand("--flagfile=a.cfg"))
        (self.folder / "b.cfg").write_bytes(b"\xff")
        self.assertRegex(self.expand("--flagfile=b.cfg"), "--flagfile=b.cfg: .*utf-8")

    def test_names_are_unambiguous(self):
        names = [path.name for path in (ROOT / "experiments" / "configs").rglob("*.cfg")]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    unittest.main()
