import importlib.util
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "benchmarks" / "step_ratio.py"


class StepRatioTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_prints_its_table(self):
        # Where torch is absent, ours alone.
        peers = ["best"] if importlib.util.find_spec("torch") else []
        arguments = ["--backbone=resnet18_v1_5", "--image_size=64", "--batch_size=4"]
        arguments += ["--hidden_dim=16", "--precision=float32", f"--peers={','.join(peers)}"]
        # Other tests run beside this one.
        arguments += ["--warm_up=1", "--rounds=1", "--steps=1", "--disturbance=1"]
        done = subprocess.run(
            [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=600
        )
        # It fails where the first losses differ.
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
        self.assertLen(rows, 2 + len(peers), done.stdout)


if __name__ == "__main__":
    tf.test.main()
