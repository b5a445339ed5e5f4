import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.jobs import ROOT, write_photos
from tests.helpers.steps import build
from tests.helpers.two_workers import STEPS, train_on_photos


@pytest.mark.slow
class TwoWorkersTest(tf.test.TestCase):
    def test_two_processes_equal_one(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        photos = write_photos(folder / "photos")
        script = ROOT / "tests" / "training" / "two_workers.py"
        launcher = ROOT / "experiments" / "launch_local.py"
        result = subprocess.run(
            [sys.executable, launcher, "--workers=2", "--", script, photos, folder],
            capture_output=True,
            text=True,
            timeout=500,
            env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        )
        output = result.stdout + result.stderr
        # The exit code of the worker that was killed; the other one noticed and ended by itself.
        self.assertEqual(result.returncode, 5, msg=output)
        self.assertTrue((folder / "noticed").exists(), msg=output)
        self.assertTrue((folder / "checkpoints" / "model.json").exists())

        single = build()
        losses = train_on_photos(single, tf.distribute.get_strategy(), photos)
        for rank in range(2):
            worker = np.load(folder / f"worker{rank}.npz")
            for index, weight in enumerate(single.weights):
                found = worker[f"weight{index}"]
                self.assertAllClose(found, weight, rtol=1e-4, atol=2e-5, msg=weight.path)
            self.assertAllClose(worker["losses"][-1], losses[-1], rtol=1e-5)
        self.assertEqual(single.steps_done(), STEPS)


if __name__ == "__main__":
    tf.test.main()
