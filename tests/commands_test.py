"""Commands and presets of a wheel, without the repository."""

import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from pixpro_keras.version import __version__
from tests.helpers.jobs import ROOT, TINY_RUN, write_photos
from tests.helpers.tiny_networks import tiny_pyramid_backbone


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
        module = name.removeprefix("pixpro-").replace("-", "_")
        return self.python("-c", f"from pixpro_keras.cli.{module} import main; main()", *arguments)

    def test_every_script_is_a_command(self):
        (info,) = self.packages.glob(f"pixpro_keras-{__version__}.dist-info")
        commands = (info / "entry_points.txt").read_text()
        scripts = [path.stem for path in (ROOT / "experiments").glob("*.py")]
        self.assertGreaterEqual(len(scripts), 13)
        for script in scripts:
            name = f"pixpro-{script.replace('_', '-')}"
            self.assertIn(f"{name} = pixpro_keras.cli.{script}:main\n", commands + "\n")
            self.assertTrue((self.packages / "pixpro_keras" / "cli" / f"{script}.py").exists())

    def test_it_is_typed(self):
        self.assertTrue((self.packages / "pixpro_keras" / "py.typed").exists())

    def test_scripts_only_call_their_command(self):
        for path in (ROOT / "experiments").glob("*.py"):
            code = path.read_text().split('"""')[-1]
            self.assertEqual(
                code.split(),
                f"from pixpro_keras.cli.{path.stem} import main "
                'if __name__ == "__main__": main()'.split(),
            )

    def test_every_preset_is_there(self):
        theirs = self.packages / "pixpro_keras" / "configs"
        for preset in (ROOT / "experiments" / "configs").rglob("*.cfg"):
            copy = theirs / preset.relative_to(ROOT / "experiments" / "configs")
            self.assertEqual(copy.read_text(), preset.read_text())

    def test_quickstart_in_one_step(self):
        photos = write_photos(self.folder / "photos")
        flags = ("--epochs=1", "--steps_per_epoch=1", "--probe=none", f"--dataset=folder:{photos}")
        network = self.folder / "tiny.keras"  # of fewer layers than any that has a name
        tiny_pyramid_backbone().save(network)
        flags += (f"--backbone={network}",)
        code, output = self.python(
            "-m", "pixpro_keras.quickstart", *TINY_RUN, *flags, "--workdir=run"
        )
        self.assertEqual(code, 0, msg=output)
        self.assertTrue((self.cwd / "run" / "export" / "backbone.keras").exists())
        resolved = (self.cwd / "run" / "flags.cfg").read_text()
        self.assertIn("--instance_form=contrastive\n", resolved)  # the preset's
        self.assertIn("--batch_size=4\n", resolved)  # and what overrules it

    def test_the_launcher_starts_commands_by_name(self):
        code, output = self.command(
            "pixpro-launch-local", "--workers=2", "--", "upload.py", "--help"
        )
        self.assertEqual(code, 0, msg=output)
        for worker in range(2):
            self.assertIn(f"[{worker}] Uploads an exported backbone", output)
        code, output = self.command("pixpro-launch-local", "--", "pixpro.py")
        self.assertEqual((code, output), (1, "error: pixpro.py is not a file\n"))


if __name__ == "__main__":
    tf.test.main()
