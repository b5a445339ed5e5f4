"""Time and memory of a PixPro training step and time of its parts, on random views.

python benchmarks/pretrain_step.py --backbone=resnet50_v1_5 --image_size=224 --batch_size=8
"""

import os
import time

import pixpro_keras  # noqa: F401  # isort: skip
import keras
import tensorflow as tf
from absl import app, flags
from timing import random_batch, seconds

from pixpro_keras import backbones
from pixpro_keras.methods import PixPro, ema
from pixpro_keras.optimizers import LARS
from pixpro_keras.utils.memory import memory_mib

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet50_v1_5", "Name of the backbone.")
flags.DEFINE_integer("image_size", 224, "Side of the views in pixels.", 1)
flags.DEFINE_integer("batch_size", 8, "Images per step.", 1)
flags.DEFINE_string("precision", "float32", "Dtype policy.")
flags.DEFINE_integer("rounds", 5, "Timed steps; the median is printed.", 1)
flags.DEFINE_boolean("jit_compile", False, "Compile the step with XLA.")
flags.DEFINE_boolean("remat", False, "Recompute the backbone's activations in the backward pass.")


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    keras.config.set_dtype_policy(FLAGS.precision)
    keras.utils.set_random_seed(0)
    method = PixPro(backbones.build(FLAGS.backbone), total_steps=1000)
    if FLAGS.remat:
        method.encoder.recompute_backbone()
    method.compile(optimizer=LARS(0.1), jit_compile=FLAGS.jit_compile)
    method.optimizer.build(method.trainable_variables)
    batch = random_batch(FLAGS.batch_size, FLAGS.image_size)
    zeros = [tf.zeros_like(variable) for variable in method.trainable_variables]

    def traced(function):
        return tf.function(function, jit_compile=FLAGS.jit_compile)

    @traced
    def target_forward():
        return [method.target_encoder(batch[view], training=True) for view in ("view1", "view2")]

    @traced
    def online_forward():
        return [method.encoder(batch[view], training=True) for view in ("view1", "view2")]

    @traced
    def moving_average():
        ema.update(method.encoder, method.target_encoder, tf.constant(0.01))
        return tf.constant(0)

    @traced
    def optimizer_update():
        method.optimizer.apply(zeros, method.trainable_variables)
        return tf.constant(0)

    step = traced(lambda: method.train_step(batch))
    started = time.perf_counter()
    step()
    tracing = time.perf_counter() - started
    whole = seconds(step, FLAGS.rounds)
    parts = {
        "online forward, both views": online_forward,
        "target forward, both views": target_forward,
        "moving average": moving_average,
        "LARS": optimizer_update,
    }
    print(
        f"\n{FLAGS.backbone}, {FLAGS.image_size} px, batch {FLAGS.batch_size}, {FLAGS.precision}, "
        f"{os.cpu_count()} cores, {len(tf.config.list_physical_devices('GPU'))} GPUs\n"
    )
    print("| part | ms | share of the step |\n|---|---|---|")
    print(f"| whole step | {whole * 1e3:.0f} | 100 % |")
    for name, part in parts.items():
        part_seconds = seconds(part, FLAGS.rounds)
        print(f"| {name} | {part_seconds * 1e3:.0f} | {part_seconds / whole:.0%} |")
    print(f"\n{FLAGS.batch_size / whole:.1f} images/s, tracing and first step {tracing:.0f} s, ")
    print(f"peak memory {memory_mib():.0f} MiB (parts included)")


if __name__ == "__main__":
    app.run(main)
