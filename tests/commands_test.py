"""What a wheel holds, run without the repository."""

import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from pixpro_keras.version import __version__
from tests.helpers.jobs import ROOT, TINY_RUN, write_photos

SCRIPTS = ("convert", "detect", "export", "knn", "linear_probe", "pretrain", "segment")


@pytest.mark.slow
class InstalledTest(tf.test.TestCase):
    """As installed: the built packages alone are on the path, and the working directory is empty."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = pathlib.Path(cls.create_tempdir(cls()).full_path)
        cls.packages = cls.folder / "packages"
        cls.cwd = cls.folder / "cwd"
        cls.cwd.mkdir()
        build = ["build", f"--build-base={cls.folder}", f"--build-lib={cls.packages}"]
        metadata = ["dist_info", f"--output-dir={cls.packages}"]
        egg = ["egg_info", f"--egg-base={cls.folder}"]
        subprocess.run(
            [sys.executable, "setup.py", "-q", *egg, *build, *metadata],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )

    def python(self, *arguments):
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.cwd,
            env=os.environ | {"PYTHONPATH": str(self.packages), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        return result.returncode, result.stdout + result.stderr

    def command(self, name, *arguments):
        """As the console script does it."""
        code = f"import sys; sys.argv[0] = {name!r}; from pixpro_keras.commands import main; main()"
        return self.python("-c", code, *arguments)

    def test_every_script_is_a_command(self):
        (info,) = self.packages.glob(f"pixpro_keras-{__version__}.dist-info")
        commands = (info / "entry_points.txt").read_text()
        for script in SCRIPTS:
            self.assertIn(f"pixpro-{script.replace('_', '-')} = ", commands)
            self.assertTrue(
                (self.packages / "pixpro_keras" / "experiments" / f"{script}.py").exists()
            )

    def test_every_preset_is_there(self):
        theirs = self.packages / "pixpro_keras" / "experiments" / "configs"
        for preset in (ROOT / "experiments" / "configs").rglob("*.cfg"):
            copy = theirs / preset.relative_to(ROOT / "experiments" / "configs")
            self.assertEqual(copy.read_text(), preset.read_text())

    def test_quickstart_in_one_step(self):
        photos = write_photos(self.folder / "photos")
        flags = ("--epochs=1", "--steps_per_epoch=1", "--probe=none", f"--dataset=folder:{photos}")
        code, output = self.python(
            "-m", "pixpro_keras.quickstart", *TINY_RUN, *flags, "--workdir=run"
        )
        self.assertEqual(code, 0, msg=output)
        self.assertTrue((self.cwd / "run" / "export" / "backbone.keras").exists())
        resolved = (self.cwd / "run" / "flags.cfg").read_text()
        self.assertIn("--instance_form=contrastive\n", resolved)  # the preset's
        self.assertIn("--batch_size=4\n", resolved)  # and what overrules it

    def test_launcher_finds_scripts_beside_it(self):
        (self.packages / "pixpro_keras" / "experiments" / "hello.py").write_text("print('hello')")
        code, output = self.command("pixpro-launch-local", "--workers=2", "--", "hello.py")
        self.assertEqual((code, sorted(output.splitlines())), (0, ["[0] hello", "[1] hello"]))
        code, output = self.command("pixpro-launch-local", "--", "pixpro.py")
        self.assertEqual((code, output), (1, "error: pixpro.py is not a file\n"))


if __name__ == "__main__":
    tf.test.main()
