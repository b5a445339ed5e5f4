"""A small backbone and small batches for tests of methods."""

import contextlib
import dataclasses
from unittest import mock

import keras
import numpy as np

from pixpro_keras.backbones import resnet
from pixpro_keras.optimizers import LARS
from pixpro_keras.types import COORD1, COORD2, JIGSAW, LABEL, VIEW1, VIEW2

RESNET6, RESNET10 = "resnet6_v1_5", "resnet10_v1_5"


def register_resnets():
    """Registers two small ResNets in this process.

    `RESNET10`, of one basic block a stage, has all that is special in ResNet-18 and is traced in half
    the time. `RESNET6` is ResNet-18's first stage, `(B, H, W, 3) -> (B, H / 4, W / 4, 64)`, for tests in
    which any backbone will do.
    """
    for name, blocks in ((RESNET6, (2,)), (RESNET10, (1, 1, 1, 1))):
        resnet.ARCHITECTURES[name] = resnet.Architecture(blocks, is_basic=True)


@contextlib.contextmanager
def of_one_block_a_stage(name):
    """Makes a ResNet shorter for a while; yields its blocks."""
    short = dataclasses.replace(resnet.ARCHITECTURES[name], blocks=(1, 1, 1, 1))
    with mock.patch.dict(resnet.ARCHITECTURES, {name: short}):
        yield short.blocks


def tiny_backbone(synchronized=False, channels=16):
    """Two strided convolutions with batch norm: `(B, 16, 16, 3) -> (B, 4, 4, channels)`."""
    return _strided_network("tiny", 2, channels, synchronized)


def tiny_pyramid_backbone(synchronized=False, channels=8):
    """Strided convolutions down to 1/32, each with batch norm: C2 to C5 of `channels`."""
    return _strided_network("tiny_pyramid", 5, channels, synchronized)


def _strided_network(name, num_layers, channels, synchronized):
    inputs = x = keras.Input((None, None, 3))
    for index in range(num_layers):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", name=f"conv{index}")(x)
        x = keras.layers.BatchNormalization(
            momentum=0.9, synchronized=synchronized, name=f"bn{index}"
        )(x)
        x = keras.layers.ReLU(name=f"relu{index}")(x)
    return keras.Model(inputs, x, name=name)


def pyramid_method(cls, **kwargs):
    """Makes a compiled method on `tiny_pyramid_backbone` with equal weights on each call."""
    keras.utils.set_random_seed(0)
    small = {"hidden_dim": 16, "out_dim": 8, "total_steps": 20}
    method = cls(tiny_pyramid_backbone(), **(small | kwargs))
    method.compile(optimizer=LARS(0.5, trust_coefficient=0.02), jit_compile=False)
    method.optimizer.build(method.trainable_variables)
    return method


def random_batch(batch_size=8, image_size=16, seed=0):
    """Random views and patches; coordinates with overlap, flips and one pair without overlap."""
    rng = np.random.default_rng(seed)
    views = rng.normal(size=(2, batch_size, image_size, image_size, 3)).astype("float32")
    low = rng.uniform(0, 0.4, size=(2, batch_size, 2))
    high = low + rng.uniform(0.3, 0.6, size=(2, batch_size, 2))
    coords = np.concatenate([low, high], axis=-1).astype("float32")
    coords[0, ::3] = coords[0, ::3][:, [2, 1, 0, 3]]
    coords[0, -1], coords[1, -1] = (0, 0, 0.2, 0.2), (0.8, 0.8, 1, 1)
    labels = rng.integers(0, 3, size=batch_size).astype("int32")
    return {
        VIEW1: views[0],
        VIEW2: views[1],
        COORD1: coords[0],
        COORD2: coords[1],
        JIGSAW: rng.normal(size=(batch_size, 9, 8, 8, 3)).astype("float32"),
        LABEL: labels,
    }
