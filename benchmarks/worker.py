"""Code shared by all workers: batches, devices and messages."""

import argparse
import json
import sys
import time
from collections.abc import Callable

import numpy as np

TOTAL_STEPS = 1000
LEARNING_RATE = 0.1
CONV_CHANNELS = 256
CONV_SHAPE = (8, 28, 28, CONV_CHANNELS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the workers of `step_ratio.py`."""
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--image_size", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--hidden_dim", type=int, required=True)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], required=True)
    parser.add_argument(
        "--weights",
        required=True,
        help=".npz with the names of the authors' release, written by our worker",
    )


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the workers of `input_ratio.py`."""
    parser.add_argument("--folder", required=True)
    parser.add_argument("--image_size", type=int, required=True)
    parser.add_argument("--batch_size", type=int, required=True)


def make_batch(batch_size: int, image_size: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two views `(B, S, S, 3)` and their coordinates `(B, 4)`, equal in all processes."""
    rng = np.random.default_rng(0)
    shape = (batch_size, image_size, image_size, 3)
    views = [rng.standard_normal(shape).astype("float32") for _ in range(2)]
    starts = rng.uniform(0, 0.4, (2, batch_size, 2))
    ends = rng.uniform(0.6, 1, (2, batch_size, 2))
    return views, list(np.concatenate([starts, ends], axis=2).astype("float32"))


def torch_device() -> str:
    """PyTorch's name of the device: a GPU if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def gflops(convolve: Callable[[], object]) -> float:
    """Measures a 3x3 convolution of `CONV_SHAPE` in GFLOP/s; best of 20 calls."""
    operations = 2 * 9 * CONV_CHANNELS * float(np.prod(CONV_SHAPE))
    best = 0.0
    for _ in range(20):
        started = time.perf_counter()
        convolve()
        best = max(best, operations / (time.perf_counter() - started) / 1e9)
    return best


def serve(step: Callable[[int], float], measure_gflops: Callable[[], float] | None = None) -> None:
    """Answers the coordinator's commands until it closes the pipe.

    `steps N` runs N steps and answers `{"seconds", "losses"}`; losses are the results of `step`. `gflops`
    answers `{"gflops"}`. A command and an answer are one line each.

    Args:
        step: function that receives the number of the step, from 0.
        measure_gflops: function that measures a convolution.
    """
    done = 0
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "gflops" and measure_gflops is not None:
            answer: dict = {"gflops": measure_gflops()}
        else:
            losses = []
            started = time.perf_counter()
            for _ in range(int(arguments[0])):
                losses.append(step(done))
                done += 1
            answer = {"seconds": time.perf_counter() - started, "losses": losses}
        print(json.dumps(answer), flush=True)
