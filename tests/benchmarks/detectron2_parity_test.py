import importlib
import os
import pathlib
import subprocess
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras.detection import non_max_suppression
from pixpro_keras.layers import roi_align

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = FOLDER / "detectron2_parity.py"
# Folder of detectron2's source.
SOURCE = os.environ.get("DETECTRON2")

torch = pytest.importorskip("torch", reason="the stand-ins for torchvision are in torch")
with mock.patch.object(sys, "path", [str(FOLDER), *sys.path]):
    detectron2_source = importlib.import_module("detectron2_source")


class DetectronParityTest(tf.test.TestCase):
    def random_boxes(self, count, size):
        corners = np.sort(np.random.default_rng(0).uniform(-2, size, (count, 2, 2)), axis=1)
        return corners.reshape(count, 4).astype("float32")

    def test_samples_of_boxes_equal_ours(self):
        features = np.random.default_rng(1).normal(size=(1, 9, 12, 3)).astype("float32")
        boxes = self.random_boxes(20, 11)
        rows = torch.from_numpy(np.c_[np.zeros(20, "float32"), boxes * 4])
        maps = torch.from_numpy(features.transpose(0, 3, 1, 2).copy())
        found = detectron2_source.roi_align(maps, rows, (4, 4), 0.25, 0, True)
        expected = roi_align(features, boxes[None], 4)[0]
        self.assertAllClose(found.permute(0, 2, 3, 1), expected, atol=1e-5)

    def test_suppressed_boxes_are_ours(self):
        boxes = self.random_boxes(60, 20)
        scores = np.random.default_rng(2).normal(size=60).astype("float32")
        groups = np.arange(60) % 2
        arrays = (torch.from_numpy(array) for array in (boxes, scores, groups))
        found = detectron2_source.batched_nms(*arrays, 0.3).numpy()
        for group in range(2):
            is_used = groups == group
            kept, is_kept = non_max_suppression(boxes[None], scores[None], is_used[None], 0.3, 60)
            kept = keras.ops.convert_to_numpy(kept)[keras.ops.convert_to_numpy(is_kept)]
            self.assertAllEqual([index for index in found if is_used[index]], kept)
        self.assertAllEqual(scores[found], np.sort(scores[found])[::-1])

    def test_a_folder_without_the_source_is_named(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        with self.assertRaisesRegex(Exception, f"{folder}: there is no folder `detectron2`"):
            detectron2_source.prepare(folder)

    @pytest.mark.slow
    @pytest.mark.skipif(SOURCE is None, reason="DETECTRON2 names no folder of detectron2's source")
    def test_losses_are_equal(self):
        arguments = [f"--detectron2={SOURCE}", "--model=mask_rcnn_fpn", "--num_rois=64"]
        done = subprocess.run(
            [sys.executable, SCRIPT, *arguments, "--height=256", "--width=320"],
            capture_output=True,
            text=True,
            timeout=600,
        )
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        rows = [
            line.split("|")[1:-1]
            for line in done.stdout.splitlines()
            if "e-" in line or "e+" in line
        ]
        losses = [float(row[3]) for row in rows if len(row) == 4]
        self.assertLen(losses, 5, done.stdout)
        self.assertLess(max(losses), 1e-3, done.stdout)


if __name__ == "__main__":
    tf.test.main()
