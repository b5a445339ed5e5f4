"""ResNets in detectron2's `.pkl` files, and the lines of its config that belong with them."""

import collections
import os
import pickle
import re
from typing import Any

import keras
import numpy as np

from pixpro_keras.backbones import registry, resnet
from pixpro_keras.weights import name_maps

_RESNET_EPSILON = 1e-5  # detectron2's and torch's
# The epsilon of keras.applications' ResNets is larger by this.
_EXTRA_EPSILON = 1.001e-5 - _RESNET_EPSILON


class Detectron2FileError(ValueError):
    """A `.pkl` file that cannot be read or holds no ResNet."""


def detectron2_config(name: str) -> dict[str, Any]:
    """Lines of a detectron2 config that the weights need to give equal features.

    Args:
        name: one of the paper's ResNets, or `resnet50`, `resnet101`, `resnet152` of keras.applications.

    Returns:
        Config key -> value.

    Raises:
        ValueError: if detectron2 has no such network.

    Example:
        ```python
        from pixpro_keras.weights.detectron2 import detectron2_config

        assert detectron2_config("resnet50_v1_5")["INPUT.FORMAT"] == "RGB"
        ```
    """
    match = re.fullmatch(r"(?:wide_)?resnex?t(18|34|50|101|152)(_\w+)?", name)
    architecture = resnet.ARCHITECTURES.get(name)
    if match is None or (architecture is None and match.group(2)):
        raise ValueError(f"{name} is no ResNet that detectron2 has")
    if architecture is not None and architecture.is_deep:
        raise ValueError(f"{name} is no ResNet that detectron2 has: its stem is one convolution")
    depth: dict[str, Any] = {"MODEL.RESNETS.DEPTH": int(match.group(1))}
    if architecture is not None:
        if architecture.is_basic:
            depth["MODEL.RESNETS.RES2_OUT_CHANNELS"] = 64
        if (architecture.groups, architecture.group_width) != (1, 64):
            depth["MODEL.RESNETS.NUM_GROUPS"] = architecture.groups
            depth["MODEL.RESNETS.WIDTH_PER_GROUP"] = architecture.group_width
        return depth | {
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
            "MODEL.PIXEL_MEAN": [123.675, 116.28, 103.53],
            "MODEL.PIXEL_STD": [58.395, 57.12, 57.375],
            "INPUT.FORMAT": "RGB",
        }
    return depth | {
        "MODEL.RESNETS.STRIDE_IN_1X1": True,
        "MODEL.PIXEL_MEAN": [103.939, 116.779, 123.68],
        "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
        "INPUT.FORMAT": "BGR",
    }


def to_detectron2(network: keras.Model, name: str) -> dict[str, Any]:
    """Converts a plain network to the content of a file for detectron2's checkpointer.

    Batch norm is not merged into convolutions. detectron2's convolutions have no bias and its epsilon is
    1e-5: biases of keras.applications' ResNets are subtracted from the running means, the difference
    of epsilon is added to the variances, and the features stay the same.

    Args:
        network: float32 ResNet of output stride 32.
        name: its name.

    Returns:
        Dict for `pickle`; beside detectron2's keys, `config` holds `detectron2_config(name)`.

    Raises:
        ValueError: if detectron2 has no such network.

    Example:
        ```python
        import pathlib
        import pickle
        import tempfile

        from pixpro_keras import backbones
        from pixpro_keras.weights.detectron2 import from_detectron2, to_detectron2

        network = backbones.plain_network("resnet18_v1_5")
        path = pathlib.Path(tempfile.mkdtemp(), "detectron2.pkl")
        path.write_bytes(pickle.dumps(to_detectron2(network, "resnet18_v1_5")))
        assert from_detectron2(path).name == "resnet18_v1_5"
        ```
    """
    config = detectron2_config(name)
    variables = name_maps.named_variables(network.layers, name_maps.detectron2_layer_name)
    arrays = {
        key: name_maps.to_torch_layout(keras.ops.convert_to_numpy(variable))
        for key, variable in variables.items()
    }
    if config["MODEL.RESNETS.STRIDE_IN_1X1"]:
        for key in [key for key in arrays if key.endswith("bias") and "norm" not in key]:
            norm = key.removesuffix("bias") + "norm."
            arrays[f"{norm}running_mean"] = arrays[f"{norm}running_mean"] - arrays.pop(key)
            arrays[f"{norm}running_var"] = arrays[f"{norm}running_var"] + np.float32(_EXTRA_EPSILON)
    return {
        "model": arrays,
        "__author__": "pixpro_keras",
        "matching_heuristics": True,
        "config": config,
    }


def from_detectron2(path: str | os.PathLike) -> keras.Model:
    """Reads the plain network of a `.pkl` file, from `to_detectron2` or the official converter.

    A file without `config` is taken for one of the paper's ResNets. A head (`stem.fc.*`) is ignored.
    `to_detectron2` shows both in its example.

    Args:
        path: the file.

    Raises:
        Detectron2FileError: if the file is truncated, imports something other than arrays,
            or does not hold a whole ResNet.
    """
    content = _unpickle(path)
    arrays = content.get("model") if isinstance(content, dict) else None
    if not isinstance(arrays, dict) or "stem.conv1.weight" not in arrays:
        raise Detectron2FileError(f"{path}: no ResNet in detectron2's names")
    # The converters of detectron2 and MoCo take the classifier or projector for a part of the stem.
    arrays = {key: array for key, array in arrays.items() if not key.startswith("stem.fc.")}
    blocks = tuple(
        len({key.split(".")[1] for key in arrays if key.startswith(f"res{stage}.")})
        for stage in range(2, 6)
    )
    is_basic = "res2.0.conv3.weight" not in arrays
    groups = {}
    if not is_basic and "res2.0.conv2.weight" in arrays:
        groups = resnet.grouping(arrays["res2.0.conv2.weight"].shape)
    try:
        name = resnet.resnet_name(resnet.Architecture(blocks, is_basic, **groups))
    except ValueError as error:
        raise Detectron2FileError(f"{path}: {error}") from error
    is_application = content.get("config", {}).get("MODEL.RESNETS.STRIDE_IN_1X1", False)
    if is_application:
        name = name.removesuffix("_v1_5")
    network = registry.plain_network(name)
    variables = name_maps.named_variables(network.layers, name_maps.detectron2_layer_name)
    if is_application:
        for key, variable in variables.items():
            if key.endswith("bias") and "norm" not in key:
                arrays[key] = np.zeros(variable.shape, "float32")
            elif key.endswith("running_var"):
                arrays[key] = arrays[key] - np.float32(_EXTRA_EPSILON)
    try:
        name_maps.assign_state_dict(variables, arrays, name)
    except ValueError as error:
        raise Detectron2FileError(f"{path}: {error}") from error
    return network


class _ArraysOnly(pickle.Unpickler):
    """Unpickler restricted to plain values and NumPy arrays, since other objects could run code."""

    _ADMITTED = frozenset(
        (f"numpy.{package}.{module}", name)
        for package in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ) | {("numpy", "ndarray"), ("numpy", "dtype"), ("collections", "OrderedDict")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ADMITTED:
            raise pickle.UnpicklingError(f"the file imports {module}.{name}")
        if module == "collections":
            return collections.OrderedDict
        return super().find_class(module, name)


def _unpickle(path: str | os.PathLike) -> Any:
    try:
        with open(path, "rb") as file:
            return _ArraysOnly(file).load()
    except OSError as error:
        raise Detectron2FileError(f"{path}: {error.strerror}") from error
    except Exception as error:  # A broken pickle raises many kinds of errors.
        raise Detectron2FileError(f"{path}: no complete pickle of arrays ({error})") from error
