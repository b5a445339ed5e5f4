"""Time and memory of a training step against batch size, image size, map size, queue length and FPN.

python benchmarks/scaling.py --backbone=resnet18_v1_5

Each row is measured in a process of its own, since peak memory is that of a process.
"""

import pixpro_keras  # noqa: F401  # isort: skip
import os
import subprocess
import sys
from typing import Any

import keras
import tensorflow as tf
from absl import app, flags
from timing import random_batch, seconds

from pixpro_keras import backbones
from pixpro_keras.methods import METHODS
from pixpro_keras.optimizers import LARS
from pixpro_keras.utils.memory import memory_mib

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet18_v1_5", "Name of the backbone.")
flags.DEFINE_list("axes", ["batch", "image", "map", "queue", "fpn"], "Quantities to vary.")
flags.DEFINE_string("precision", "float32", "Dtype policy.")
flags.DEFINE_integer("rounds", 3, "Timed steps; the median is printed.", 1)
flags.DEFINE_string(
    "case", None, "Measure one case only: method,batch,image,output stride,queue,FPN."
)

# Axis -> (name of the row, its `--case`).
_AXES = {
    "batch": [(f"batch {n}, 96 px", f"pixpro,{n},96,32,0,0") for n in (2, 8, 32, 64)],
    "image": [(f"{n} px, batch 4", f"pixpro,4,{n},32,0,0") for n in (96, 224, 384, 512)],
    "map": [
        (f"{n // 16} x {n // 16} cells ({n} px at stride 16), batch 4", f"pixpro,4,{n},16,0,0")
        for n in (112, 224, 448)
    ],
    "queue": [
        (f"MoCo v2, {n} keys, 96 px, batch 32", f"mocov2,32,96,32,{n},0") for n in (512, 65536)
    ],
    "fpn": [(f"224 px, batch 4, FPN {on}", f"pixpro,4,224,32,0,{on}") for on in (0, 1)],
}


def measure(case: str) -> None:
    """Prints seconds of a step and peak memory in MiB."""
    name, *numbers = case.split(",")
    batch_size, image_size, output_stride, queue_size, use_fpn = map(int, numbers)
    keras.config.set_dtype_policy(FLAGS.precision)
    arguments: dict = {"queue_size": queue_size} if queue_size else {"use_fpn": bool(use_fpn)}
    cls: Any = METHODS[name]
    method = cls(
        backbones.build(FLAGS.backbone, output_stride=output_stride),
        total_steps=1000,
        hidden_dim=1024,
        **arguments,
    )
    method.compile(LARS(0.1), jit_compile=False)
    method.optimizer.build(method.trainable_variables)
    batch = random_batch(batch_size, image_size)
    step = tf.function(lambda: method.train_step(batch))
    print(seconds(step, FLAGS.rounds), memory_mib())


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    if FLAGS.case:
        measure(FLAGS.case)
        return
    print(f"{FLAGS.backbone}, {FLAGS.precision}, {os.cpu_count()} cores\n")
    print("| | ms per step | images/s | peak MiB |\n|---|---|---|---|", flush=True)
    given = [word for word in sys.argv[1:] if not word.startswith(("--axes", "-axes"))]
    for label, case in (line for axis in FLAGS.axes for line in _AXES[axis]):
        command = [sys.executable, argv[0], *given, f"--case={case}"]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        step, peak = map(float, result.stdout.split())
        rate = int(case.split(",")[1]) / step
        print(f"| {label} | {1e3 * step:.0f} | {rate:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
