"""Dtype policies of networks that are built from a config."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras.backend import is_float_dtype


def with_policy(config: Any, policy: str) -> Any:
    """Copies the config of a layer or model, with a dtype policy for it and all layers inside.

    Inputs of any float become float32.

    Args:
        config: from `get_config`, or a part of it.
        policy: name of the dtype policy.

    Example:
        ```python
        import keras

        from pixpro_keras.backbones.dtype_policies import with_policy

        layer = keras.layers.ReLU(dtype="mixed_float16")
        layer = keras.layers.ReLU.from_config(with_policy(layer.get_config(), "float32"))
        print(layer.compute_dtype)  # float32
        ```
    """
    if isinstance(config, dict):
        copy = {name: with_policy(value, policy) for name, value in config.items()}
        if {"dtype", "trainable"} <= copy.keys():
            copy["dtype"] = policy
        elif {"dtype", "batch_shape"} <= copy.keys() and is_float_dtype(copy["dtype"]):
            # Nested models cast to the dtype of their inputs, which would lose the precision before.
            copy["dtype"] = "float32"
        return copy  # Operations such as a cast have a dtype too; it stays.
    if isinstance(config, list):
        return [with_policy(value, policy) for value in config]
    return config


@contextlib.contextmanager
def global_policy(policy: str | keras.DTypePolicy) -> Iterator[None]:
    """Context with another global dtype policy of Keras; on exit the policy from before is restored.

    Args:
        policy: dtype policy or its name.

    Example:
        ```python
        import keras

        from pixpro_keras.backbones.dtype_policies import global_policy

        with global_policy("mixed_float16"):
            print(keras.layers.ReLU().compute_dtype)  # float16
        ```
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
