"""Runs the project's jobs as a user does: as commands."""

import json
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


# Imports a job once and runs it in a fork for each command line: importing TensorFlow takes longest.
_FORKS = """
import importlib, json, os, sys, tempfile, traceback

sys.path.insert(0, sys.argv[1])
job = importlib.import_module(sys.argv[2])
results = []
for argv in json.loads(sys.argv[3]):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = [job.__file__, *argv]
            code = 0
            try:
                job.common_flags.run(job.main)
            except SystemExit as error:
                code = error.code or 0
            except BaseException:
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        results.append([status, *texts])
print(json.dumps(results))
"""


def run_jobs(script, command_lines, cwd=ROOT):
    """Finished processes as of `run_job`, for jobs that end before they train."""
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            _FORKS,
            ROOT / "experiments",
            script.removesuffix(".py"),
            json.dumps([[str(flag) for flag in flags] for flags in command_lines]),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert result.returncode == 0, result.stderr
    return [
        subprocess.CompletedProcess(flags, *outcome)
        for flags, outcome in zip(
            command_lines, json.loads(result.stdout.splitlines()[-1]), strict=True
        )
    ]


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
