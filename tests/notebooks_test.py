"""Runs the notebooks of `docs/notebooks`, small, each in a kernel of its own."""

import os
import pathlib
from unittest import mock

import nbclient
import nbformat
import numpy as np
import pytest
import tensorflow as tf

from tests.helpers.jobs import ROOT, write_photos

FOLDER = ROOT / "docs" / "notebooks"
SMALL = {
    "IMAGE_SIZE": "32",
    "BATCH_SIZE": "4",
    "EPOCHS": "1",
    "HIDDEN_DIM": "16",
    "HEIGHT": "32",
    "WIDTH": "48",
    "NUM_CLASSES": "3",
    "MPLBACKEND": "agg",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


class NotebooksTest(tf.test.TestCase):
    def test_outputs_are_not_committed(self):
        for path in FOLDER.glob("*.ipynb"):
            for cell in nbformat.read(path, 4).cells:
                self.assertFalse(cell.get("outputs"), msg=path.name)
                self.assertIsNone(cell.get("execution_count"), msg=path.name)

    def run_notebook(self, name, folder, first="", **settings):
        """Runs a notebook in a new kernel, perhaps after some code; returns what it prints."""
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
        path = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        with mock.patch.dict(os.environ, SMALL | path | settings):
            resources = {"metadata": {"path": str(folder)}}
            nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
        return "".join(
            output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
        )

    @pytest.mark.slow
    def test_a_keras_model_loads_the_export_of_the_own_folder(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(folder / "photos")
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            write_photos(folder / "camvid" / split / "images", count=4)
            labels = folder / "camvid" / split / "labels"
            labels.mkdir()
            for index in range(4):
                mask = rng.choice([0, 1, 2, 255], (40, 40 + index, 1)).astype("uint8")
                tf.io.write_file(str(labels / f"{index}.png"), tf.io.encode_png(mask))
        small = "from tests.helpers import tiny_networks; tiny_networks.register_resnets()"
        text = self.run_notebook("own_folder", folder, small, BACKBONE="resnet10_v1_5")
        self.assertIn("8 images, 2 steps in an epoch", text)
        self.assertTrue((folder / "runs" / "notebook" / "export" / "README.md").exists())
        text = self.run_notebook("keras_model", folder)
        self.assertIn("'c4': (None, None, None, 256)", text)
        self.assertIn("val_loss", text)


if __name__ == "__main__":
    tf.test.main()
