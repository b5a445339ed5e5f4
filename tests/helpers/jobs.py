"""Runs the project's commands in processes of their own."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[2]

# A run of a few seconds once TensorFlow is imported. Its backbone is known to the jobs of this module only.
TINY_RUN = (
    "--backbone=resnet6_v1_5",
    "--projector_hidden_dim=16",
    "--projector_dim=8",
    "--image_size=32",
    "--batch_size=4",
    "--picture_every_steps=0",
    "--log_every_steps=1",
    "--deterministic",
)


# Imports TensorFlow once and runs each command line in a fork: importing takes longest. A fork knows
# nothing of the others, and TensorFlow starts its threads when it is first used. A request is a job to
# start, answered by its process's number, or the number of one to wait for.
_FORKS = """
import importlib, json, os, signal, sys, tempfile, traceback

import keras, matplotlib.pyplot, sklearn.linear_model, tensorflow, tensorflow_datasets

from pixpro_keras.cli import detect, knn, linear_probe, pretrain, segment, visualize
from tests.helpers import quick_graphs, tiny_networks

# As for the tests themselves; commands that tests start by themselves are as users have them.
quick_graphs.make_graphs_quickly()
quick_graphs.without_layout().start()
quick_graphs.without_curves().start()
tiny_networks.register_resnets()
files = {}

def start(script, argv, folder, is_whole):
    out, err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    pid = os.fork()
    if pid:
        files[pid] = (out, err)
        return pid
    os.chdir(folder)
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    code = 0
    job = importlib.import_module(f"pixpro_keras.cli.{script}")
    sys.argv = [script, *argv]
    if is_whole:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        job.main()  # ends the process
    try:
        job.main()
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

def wait(pid):
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for file in files.pop(pid):
        with file:
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return status, *texts

for request in sys.stdin:
    request = json.loads(request)
    answer = wait(request) if isinstance(request, int) else start(*request)
    print(json.dumps(answer), flush=True)
"""


@functools.cache
def _server():
    """Process that forks the jobs of all tests of this process. It ends with its input."""
    return subprocess.Popen(
        [sys.executable, "-c", _FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        # Else each fork with --deterministic would start anew, without it.
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "TF_ENABLE_ONEDNN_OPTS": "0"},
    )


def _ask(request):
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, "the process that runs the jobs is gone"
    return json.loads(answer)


class StartedJob:
    """Job in a process of its own, with the interface of `subprocess.Popen`.

    Args:
        script: name of the command.
        *flags: its command line.
        cwd: its directory.
        is_whole: whether it ends as commands do, with the end of the interpreter, and on one core;
            others end at once, which is quicker.
    """

    def __init__(self, script, *flags, cwd=ROOT, is_whole=False):
        self.args = [script.removesuffix(".py"), *map(str, flags)]
        self.pid = _ask([self.args[0], self.args[1:], str(cwd), is_whole])

    def is_running(self):
        state = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self):
        """Waits for the job and returns the finished process, with `stdout` and `stderr` as text."""
        return subprocess.CompletedProcess(self.args, *_ask(self.pid))


def run_job(script, *flags, cwd=ROOT):
    """Runs a job to its end and returns the process, with `stdout` and `stderr` as text."""
    return StartedJob(script, *flags, cwd=cwd).wait()


def run_jobs(script, command_lines, cwd=ROOT):
    """Runs several jobs in sequence; see `run_job`."""
    return [run_job(script, *flags, cwd=cwd) for flags in command_lines]


def write_photos(folder, count=8, size=40, seed=0):
    """Writes smooth random JPEG images to a folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        coarse = rng.integers(0, 255, size=(5, 5, 3)).astype("float32")
        image = tf.cast(tf.image.resize(coarse, (size, size + index)), "uint8")
        tf.io.write_file(str(folder / f"{index}.jpg"), tf.io.encode_jpeg(image))
    return folder
