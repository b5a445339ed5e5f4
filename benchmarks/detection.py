"""Images/s, parameters and peak memory of the detectors, on random images.

python benchmarks/detection.py --backbone=resnet50_v1_5 --height=800 --width=1088 --batch_size=1

Each model is measured in a process of its own. Peak memory is read after training and before inference.
"""

import os
import subprocess
import sys

import pixpro_keras  # noqa: F401  # isort: skip
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from timing import seconds

from pixpro_keras import backbones, detection
from pixpro_keras.detection import box_pipeline
from pixpro_keras.detection.detector import DetectorConfig
from pixpro_keras.types import Tensor
from pixpro_keras.utils.memory import memory_mib

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum("model", detection.available(), detection.available(), "Models to measure.")
flags.DEFINE_string("backbone", "resnet50_v1_5", "Name of the backbone.")
flags.DEFINE_integer("height", 800, "Height of the images in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("width", 1088, "Width of the images in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("batch_size", 1, "Images per training step; inference runs on one image.", 1)
flags.DEFINE_integer("num_classes", 80, "Classes of objects.", 1)
flags.DEFINE_integer("num_objects", 10, "Objects in each image.", 1)
flags.DEFINE_integer("num_rois", 512, "Proposals sampled per training image.", 4)
flags.DEFINE_string("precision", "float32", "Dtype policy.")
flags.DEFINE_integer("rounds", 5, "Timed calls; the median is printed.", 1)


def make_batch(count: int, with_masks: bool) -> dict[str, Tensor]:
    """Random images and objects, in the format of `box_pipeline`."""
    rng = np.random.default_rng(0)
    size = np.array([FLAGS.height, FLAGS.width], "float32")
    corners = rng.uniform(0, 0.6, (count, FLAGS.num_objects, 2))
    ends = corners + rng.uniform(0.05, 0.4, corners.shape)
    scale = size[::-1]
    batch = {
        box_pipeline.IMAGE: rng.normal(size=(count, FLAGS.height, FLAGS.width, 3)).astype(
            "float32"
        ),
        box_pipeline.SIZE: np.broadcast_to(size, (count, 2)),
        box_pipeline.BOXES: np.concatenate([corners * scale, ends * scale], -1).astype("float32"),
        box_pipeline.CLASSES: rng.integers(0, FLAGS.num_classes, corners.shape[:2]).astype("int32"),
        box_pipeline.SEED: np.zeros((count, 2), "int32"),
    }
    if with_masks:
        batch[box_pipeline.MASKS] = np.ones((*corners.shape[:2], 112, 112), "uint8")
    return {name: tf.constant(value) for name, value in batch.items()}


def measure(name: str) -> None:
    """Measures a model and prints its row of the table."""
    keras.config.set_dtype_policy(FLAGS.precision)
    keras.utils.set_random_seed(0)
    config = DetectorConfig(FLAGS.num_classes, num_rois=FLAGS.num_rois)
    task = detection.build(name, backbones.build(FLAGS.backbone), config)
    task.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
    task.optimizer.build(task.trainable_variables)
    batch = make_batch(FLAGS.batch_size, detection.predicts_masks(name))
    step = tf.function(lambda: task.train_step(batch))
    training = seconds(step, FLAGS.rounds)
    peak = memory_mib()
    image, size = batch[box_pipeline.IMAGE][:1], batch[box_pipeline.SIZE][:1]
    inference = seconds(tf.function(lambda: task.detect(image, size)), FLAGS.rounds)
    parameters = sum(int(np.prod(one.shape)) for one in task.trainable_variables)
    print(
        f"| {name} | {parameters / 1e6:.2f} M | {FLAGS.batch_size / training:.3g} "
        f"| {1 / inference:.3g} | {peak:.0f} |"
    )


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    if len(FLAGS.model) == 1:
        measure(FLAGS.model[0])
        return
    print(
        f"{FLAGS.backbone}, {FLAGS.height} x {FLAGS.width} px, batch {FLAGS.batch_size}, "
        f"{FLAGS.precision}, {os.cpu_count()} cores, "
        f"{len(tf.config.list_physical_devices('GPU'))} GPUs\n"
    )
    columns = "parameters", "training images/s", "inference images/s", "peak of training, MiB"
    print(f"| model | {' | '.join(columns)} |\n|---|---|---|---|---|", flush=True)
    given = [word for word in sys.argv[1:] if not word.startswith(("--model", "-model"))]
    for name in FLAGS.model:
        subprocess.run([sys.executable, argv[0], *given, f"--model={name}"], check=True)


if __name__ == "__main__":
    app.run(main)
