"""Runs the project's jobs as a user does: as commands."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A run of a few seconds once TensorFlow is imported.
TINY_RUN = (
    "--backbone=resnet18_v1_5",
    "--projector_hidden_dim=16",
    "--projector_dim=8",
    "--image_size=32",
    "--batch_size=4",
    "--picture_every_steps=0",
    "--log_every_steps=1",
    "--deterministic",
)


def run_job(script, *flags, cwd=ROOT, **kwargs):
    """The finished process, with `stdout` and `stderr` as text."""
    return subprocess.run(
        [sys.executable, ROOT / "experiments" / script, *flags],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        **kwargs,
    )


def write_photos(folder, count=8, size=40, seed=0):
    """Smooth random JPEG images in a folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        coarse = rng.integers(0, 255, size=(5, 5, 3)).astype("float32")
        image = tf.cast(tf.image.resize(coarse, (size, size + index)), "uint8")
        tf.io.write_file(str(folder / f"{index}.jpg"), tf.io.encode_jpeg(image))
    return folder
