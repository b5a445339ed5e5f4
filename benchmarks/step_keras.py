"""Worker of `step_ratio.py`: our PixPro step, on one device or under MirroredStrategy."""

import argparse
from typing import Any

import pixpro_keras  # noqa: F401  # isort: skip
import keras
import numpy as np
import tensorflow as tf
import worker

from pixpro_keras import backbones
from pixpro_keras.methods import PixPro
from pixpro_keras.optimizers import LARS
from pixpro_keras.training.strategy import make_strategy
from pixpro_keras.types import COORD1, COORD2, VIEW1, VIEW2
from pixpro_keras.weights import name_maps
from pixpro_keras.weights.official import official_variables


def main() -> None:
    """Writes the weights for the other workers, then serves training steps."""
    parser = argparse.ArgumentParser()
    worker.add_arguments(parser)
    parser.add_argument("--strategy", choices=["one_device", "mirrored"], default="one_device")
    options = parser.parse_args()
    strategy = make_strategy(options.strategy)
    policy = "mixed_bfloat16" if options.precision == "bfloat16" else "float32"
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        method = PixPro(
            backbones.build(options.backbone),
            total_steps=worker.TOTAL_STEPS,
            hidden_dim=options.hidden_dim,
        )
        method.compile(optimizer=LARS(worker.LEARNING_RATE), jit_compile=False)
        method.optimizer.build(method.trainable_variables)
    write_weights(method, options.weights)
    views, coordinates = worker.make_batch(options.batch_size, options.image_size)
    keys = (VIEW1, VIEW2, COORD1, COORD2)
    batch = {key: tf.constant(value) for key, value in zip(keys, views + coordinates, strict=True)}
    train_step = tf.function(lambda batch: strategy.run(method.train_step, args=(batch,)))

    def step(number: int) -> float:
        del number
        return float(train_step(batch)["loss"])

    worker.serve(step, keras_gflops)


def write_weights(method: PixPro, path: str) -> None:
    """Writes the weights for the other workers. The copy is freed on return."""
    state: Any = name_maps.to_torch_state_dict(official_variables(method), num_batches=0)
    np.savez(path, **state)


def keras_gflops() -> float:
    """Measures a forward convolution of TensorFlow in GFLOP/s."""
    images = tf.random.normal(worker.CONV_SHAPE)
    kernel = tf.random.normal((3, 3, worker.CONV_CHANNELS, worker.CONV_CHANNELS))
    return worker.gflops(lambda: tf.nn.conv2d(images, kernel, 1, "SAME").numpy())


if __name__ == "__main__":
    main()
