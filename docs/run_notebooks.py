"""Runs the notebooks, each in a new kernel, and stores their outputs and pictures in them.

    python docs/run_notebooks.py FOLDER [NAME ...]

They run in FOLDER, which keeps the images and runs that they write; without names, all of them do.
"""

import os
import pathlib
import sys

import nbclient
import nbformat

_NOTEBOOKS = pathlib.Path(__file__).with_name("notebooks")
_MAX_BYTES = 300_000


def run(path: pathlib.Path, folder: str) -> None:
    """Runs a notebook in a folder and writes it with its outputs.

    Raises:
        ValueError: if it has become too large.
    """
    notebook = nbformat.read(path, 4)
    resources = {"metadata": {"path": folder}}
    nbclient.NotebookClient(
        notebook, timeout=3600, resources=resources, record_timing=False, coalesce_streams=True
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # What TensorFlow says about the machine.
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata.language_info = {"name": "python"}
    text = nbformat.writes(notebook)
    if len(text) > _MAX_BYTES:
        raise ValueError(f"{path.name} has {len(text)} bytes, more than {_MAX_BYTES}")
    path.write_text(text + "\n")


if __name__ == "__main__":
    _, folder, *names = sys.argv
    os.makedirs(folder, exist_ok=True)
    for path in sorted(_NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            run(path, folder)
