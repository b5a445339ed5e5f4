import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from pixpro_keras.cli.launch_local import find_script
from pixpro_keras.cli.options.option_fields import FlagError
from tests.helpers.jobs import ROOT, TINY_RUN, write_photos
from tests.helpers.tiny_networks import tiny_backbone


class FindScriptTest(tf.test.TestCase):
    def test_commands_by_any_name(self):
        for names, module in (
            (("pretrain", "pretrain.py", "pixpro-pretrain"), "pretrain"),
            (("linear_probe.py", "linear-probe", "pixpro-linear-probe"), "linear_probe"),
        ):
            for name in names:
                words = ["-c", f"from pixpro_keras.cli.{module} import main; main()"]
                self.assertEqual(find_script(name), words)

    def test_scripts_by_path(self):
        self.assertEqual(find_script(__file__), [__file__])
        for name in ("pixpro.py", "pixpro-nothing", ""):
            with self.assertRaisesRegex(FlagError, f"^{name} is not a file"):
                find_script(name)


@pytest.mark.slow
class LaunchLocalTest(tf.test.TestCase):
    def test_a_signal_to_one_worker_saves_and_ends_all(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        photos = write_photos(folder / "photos")
        # Reading a network from its file must not come before the workers join.
        tiny_backbone().save(folder / "network.keras")
        command = [
            sys.executable,
            ROOT / "experiments" / "launch_local.py",
            "--workers=2",
            "--",
            "pretrain",
            *TINY_RUN,
            f"--backbone={folder / 'network.keras'}",
            f"--dataset=folder:{photos}",
            "--epochs=100000",
            f"--workdir={folder / 'run'}",
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"},
        )
        try:
            deadline = time.time() + 240
            while not (folder / "run" / "metrics.jsonl").exists():
                self.assertLess(time.time(), deadline, "the run did not start")
                self.assertIsNone(process.poll(), msg="the run ended")
                time.sleep(0.1)
            workers = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
            _, last = map(int, workers.read_text().split())
            os.kill(last, signal.SIGUSR1)  # not the chief, which is the one that saves
            output, _ = process.communicate(timeout=120)
        finally:
            process.kill()
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, msg=output)
        self.assertIn("[0] Stopped after", output)
        self.assertIn("[1] Stopped after", output)
        self.assertNotIn("Traceback", output)
        self.assertNotEmpty(list((folder / "run" / "checkpoints").glob("ckpt-*.index")))


if __name__ == "__main__":
    tf.test.main()
