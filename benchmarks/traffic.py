"""Number and bytes of the all-reduce operations of a training step.

python benchmarks/traffic.py --backbone=resnet50_v1_5 --method=pixpro --method=simclr

They are counted while the step is traced for two replicas; nothing is timed, and one device is enough. The
result depends on the batch size only for contrastive methods, which gather features.
"""

import collections
import threading
from typing import Any
from unittest import mock

import pixpro_keras  # noqa: F401  # isort: skip
import keras
import tensorflow as tf
from absl import app, flags

from pixpro_keras import backbones
from pixpro_keras.methods import METHODS
from pixpro_keras.optimizers import LARS
from pixpro_keras.types import batch_signature

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum("method", ["pixpro"], sorted(METHODS), "Methods to count.")
flags.DEFINE_string("backbone", "resnet50_v1_5", "Name of the backbone.")
flags.DEFINE_integer("image_size", 224, "Side of the views in pixels.", 32)
flags.DEFINE_integer("batch_size", 2, "Images per replica.", 1)
_REPLICAS = 2


def count(name: str) -> tuple[int, float, float]:
    """Counts the all-reduce operations of a step.

    Args:
        name: name of the method.

    Returns:
        Number of operations, MiB of gradients and MiB of other tensors, each per replica.
    """
    strategy = tf.distribute.MirroredStrategy(
        [f"CPU:{number}" for number in range(_REPLICAS)],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )
    with strategy.scope():
        cls: Any = METHODS[name]
        method = cls(backbones.build(FLAGS.backbone), total_steps=1000)
        method.compile(LARS(0.1), jit_compile=False)
        method.optimizer.build(method.trainable_variables)
    signature = batch_signature(FLAGS.batch_size, FLAGS.image_size)
    batch = {key: tf.TensorSpec(shape, dtype) for key, (shape, dtype) in signature.items()}
    gradients = collections.Counter(tuple(v.shape) for v in method.trainable_variables)
    sizes: dict[str, list[int]] = {"gradients": [], "rest": []}
    context = tf.distribute.ReplicaContext
    original, lock = context.all_reduce, threading.Lock()

    def all_reduce(self, op, value, options=None):
        tensors = tf.nest.flatten(value)
        is_gradients = collections.Counter(tuple(x.shape) for x in tensors) == gradients
        with lock:  # Each replica runs in its own thread.
            sizes["gradients" if is_gradients else "rest"].append(
                sum(x.shape.num_elements() * x.dtype.size for x in tensors)
            )
        return original(self, op, value, options)

    with mock.patch.object(context, "all_reduce", all_reduce):
        tf.function(
            lambda one: strategy.run(method.train_step, args=(one,)), autograph=False
        ).get_concrete_function(batch)
    mib = {kind: sum(one) / 2**20 / _REPLICAS for kind, one in sizes.items()}
    return sum(map(len, sizes.values())) // _REPLICAS, mib["gradients"], mib["rest"]


def main(argv: list[str]) -> None:
    """Counts and prints a Markdown table."""
    del argv
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * _REPLICAS,
    )
    print(f"{FLAGS.backbone}, {FLAGS.image_size} px, {FLAGS.batch_size} images per replica\n")
    print("| method | all-reduce operations | gradients, MiB | other, MiB |\n|---|---|---|---|")
    for name in FLAGS.method:
        reductions, gradients, rest = count(name)
        keras.backend.clear_session()
        print(f"| {name} | {reductions} | {gradients:.1f} | {rest:.2f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
