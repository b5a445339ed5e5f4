"""The moving-average target: copy, schedule, update. Only this module writes target weights."""

import math

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.backbones.weight_copies import refresh_normalization
from pixpro_keras.types import Tensor

__all__ = ["make_target", "one_minus_momentum", "update"]


def make_target(online: keras.Model) -> keras.Model:
    """A copy of a model with the same weights, which no gradient reaches.

    The copy's variables are frozen, not its layers: `layer.trainable = False` would put batch norm
    in inference mode, and the target normalizes with batch statistics.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.methods import ema

        target = ema.make_target(backbones.build("resnet18_v1_5"))
        print(len(target.trainable_variables))  # 0
        ```
    """
    target = type(online).from_config(online.get_config())
    target.set_weights(online.get_weights())
    refresh_normalization(target)
    for variable in target.trainable_variables:
        variable.trainable = False
    return target


def one_minus_momentum(step: Tensor, total_steps: int, base_momentum: float) -> Tensor:
    """`1 - momentum` of a step: `(1 - base_momentum) * (cos(pi * step / total_steps) + 1) / 2`.

    The complement is what the update needs; near the end `1 - momentum` falls below what float32
    resolves next to 1.

    Args:
        step: scalar, steps done; past `total_steps` it counts as `total_steps`.
        total_steps: steps of the whole run, at least 1.
        base_momentum: momentum of the first step, in [0, 1]; the paper's is 0.99, rising to 1.

    Returns:
        Scalar float32 in [0, 1 - base_momentum].

    Example:
        ```python
        from pixpro_keras.methods import ema

        print(float(ema.one_minus_momentum(500, total_steps=1000, base_momentum=0.99)))  # 0.005
        ```
    """
    progress = ops.minimum(ops.cast(step, "float32") / total_steps, 1.0)
    # (cos(x) + 1) / 2 = cos(x / 2)^2, which keeps its digits near the end.
    return (1 - base_momentum) * ops.square(ops.cos(math.pi / 2 * progress))


def update(online: keras.Model, target: keras.Model, one_minus_momentum: Tensor) -> None:
    """`target <- target + one_minus_momentum * (online - target)` for each trained variable of `online`.

    Batch-norm statistics are not averaged: the target has its own. Runs inside a traced step, in
    replica context; each replica updates its copy, so nothing crosses the network.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.methods import ema

        online = backbones.build("resnet18_v1_5")
        target = ema.make_target(online)
        ema.update(online, target, one_minus_momentum=0.01)
        ```
    """
    pairs = [
        (moving.value, trained.value)
        for moving, trained in zip(target.weights, online.weights, strict=True)
        if trained.trainable
    ]
    tf.__internal__.distribute.interim.maybe_merge_call(
        _update_on_each_replica, tf.distribute.get_strategy(), pairs, one_minus_momentum
    )


def _update_on_each_replica(
    strategy: tf.distribute.Strategy, pairs: list, one_minus_momentum
) -> None:
    def move(moving, trained, one_minus_momentum):
        # Fewer passes over the weights than `assign_add`.
        tf.raw_ops.ResourceApplyGradientDescent(
            var=moving.handle,
            alpha=tf.cast(one_minus_momentum, moving.dtype),
            delta=moving - trained,
        )

    for moving, trained in pairs:
        strategy.extended.update(moving, move, args=(trained, one_minus_momentum), group=False)
