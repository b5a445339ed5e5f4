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

QUICK = "from tests.helpers import quick_graphs\nquick_graphs.make_graphs_quickly()\n"


class NotebooksTest(tf.test.TestCase):
    def test_outputs_and_pictures_are_stored(self):
        for path in FOLDER.glob("*.ipynb"):
            with self.subTest(notebook=path.name):
                self.assertLess(path.stat().st_size, 300_000)
                cells = [x for x in nbformat.read(path, 4).cells if x.cell_type == "code"]
                counts = [cell.execution_count for cell in cells]
                self.assertEqual(counts, [*range(1, len(cells) + 1)])
                outputs = [output for cell in cells for output in cell.outputs]
                self.assertNotIn("error", [output.output_type for output in outputs])
                pictures = [x for x in outputs if "image/jpeg" in x.get("data", {})]
                self.assertGreater(len(pictures), 1)

    def test_the_first_code_cell_installs_the_package(self):
        for path in FOLDER.glob("*.ipynb"):
            first = next(x for x in nbformat.read(path, 4).cells if x.cell_type == "code")
            self.assertIn("%pip install --quiet ../..", first.source)

    def run_notebook(self, name, folder, first="", **settings):
        """Runs a notebook in a new kernel, perhaps after some code; returns what it prints."""
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(QUICK + first))
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
        small = "from tests.helpers import tiny_networks\ntiny_networks.register_resnets()"
        text = self.run_notebook("own_folder", folder, small, BACKBONE="resnet10_v1_5")
        self.assertIn("8 images, 2 steps in an epoch", text)
        self.assertTrue((folder / "runs" / "notebook" / "export" / "README.md").exists())
        own = {"WEIGHTS": "runs/notebook", "DATA": "camvid"}
        own["BACKBONE"] = (
            "runs/notebook/export/backbone.keras"  # The network has no known name there.
        )
        text = self.run_notebook("keras_model", folder, **own)
        self.assertIn("'c4': (None, None, None, 256)", text)
        self.assertIn("val_loss", text)


if __name__ == "__main__":
    tf.test.main()
