"""ResNets in torch files: the release's checkpoints, torchvision's, timm's and those of other methods."""

import argparse
import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from pixpro_keras.backbones import registry, resnet
from pixpro_keras.utils.errors import first_line
from pixpro_keras.weights import name_maps

# The key of a checkpoint that holds the weights, where it is not the state dict itself.
_STATE_KEYS = ("model", "state_dict", "model_state_dict")
# Where the online backbone lies in published checkpoints, the most telling first.
_PREFIXES = (
    "module.encoder.",  # the PixPro release, SoCo
    "encoder.",
    "module.encoder_q.",  # MoCo, SlotCon
    "encoder_q.",
    "module.base_encoder.",
    "module.backbone.",
    "backbone.",  # DenseCL, mmselfsup, lightly
    "module.",
    "model.",
    "",
)


class TorchFileError(ValueError):
    """A torch file that cannot be read or holds something else than what was asked for."""


def read_torch_file(path: str | os.PathLike) -> Any:
    """What `torch.save` wrote, read without running code from the file.

    Tensors, plain Python values and `argparse.Namespace` are admitted, nothing else.

    Raises:
        TorchFileError: if the file is missing, truncated, or wants to import something.
        ImportError: if torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "reading torch files needs PyTorch: pip install 'pixpro-keras[torch]'"
        ) from error
    if not os.path.isfile(path):
        raise TorchFileError(f"{path}: no such file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own, pickle's, zipfile's and plain RuntimeErrors
        text = str(error)
        wanted = re.search(r"GLOBAL ([\w.]+)", text) or re.search(
            r"Unsupported class ([\w.]+)", text
        )
        if wanted:
            raise TorchFileError(
                f"{path}: the file wants to import {wanted.group(1)}, which could run code; only "
                "tensors, plain values and argparse.Namespace are read"
            ) from error
        raise TorchFileError(f"{path}: no complete torch file ({first_line(error)})") from error


def state_dict_of(content: Any, path: str | os.PathLike) -> dict[str, Any]:
    """The state dict in what a torch file holds: name -> tensor.

    Raises:
        TorchFileError: if there is none.
    """
    candidates = [content]
    if isinstance(content, Mapping):
        candidates = [content[key] for key in _STATE_KEYS if key in content] + candidates
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            state = {k: v for k, v in candidate.items() if hasattr(v, "detach")}
            if state:
                return state
    found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise TorchFileError(f"{path}: no state dict, only {found or 'an empty dict'}")


def to_arrays(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Tensors of any precision as float32 arrays, integers as they are."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in state.items()
    }


def find_backbone(state: Mapping[str, Any], path: str | os.PathLike) -> tuple[str, str]:
    """Where a plain ResNet lies in a state dict, and which one it is.

    Returns:
        Prefix of its names, and its name for `backbones.build`.

    Raises:
        TorchFileError: if there is no ResNet, or several of which none is known as the online one.
    """
    end = "layer1.0.conv1.weight"
    prefixes = [name.removesuffix(end) for name in state if name.endswith(end)]
    known = [prefix for prefix in _PREFIXES if prefix in prefixes]
    if not prefixes:
        raise TorchFileError(
            f"{path}: no ResNet in torchvision's names, whose first block is called {end}; it holds "
            f"{', '.join(list(state)[:3])}, ..."
        )
    if not known and len(prefixes) > 1:
        raise TorchFileError(
            f"{path}: several ResNets, below {', '.join(prefixes)}, and none known as the backbone"
        )
    prefix = (known or prefixes)[0]
    if f"{prefix}conv1.weight" not in state:
        raise TorchFileError(
            f"{path}: the ResNet below {prefix!r} has no stem conv1.weight; networks with a deeper "
            "stem (ResNet-C, -D) are not the paper's"
        )
    blocks = tuple(_num_blocks(state, f"{prefix}layer{stage}.") for stage in range(1, 5))
    is_basic = f"{prefix}layer1.0.conv3.weight" not in state
    try:
        return prefix, resnet.name_of(blocks, is_basic)
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from error


def _num_blocks(state: Mapping[str, Any], prefix: str) -> int:
    blocks = {name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)}
    return len(blocks)


def backbone_from_state(
    state: Mapping[str, Any], path: str | os.PathLike, name: str | None = None
) -> tuple[keras.Model, str, str]:
    """The plain float32 ResNet in a torch state dict.

    Args:
        state: name -> tensor.
        path: the file, for errors.
        name: the network that is expected; default: whichever it is.

    Returns:
        The network, its name, and the prefix of its weights in the state dict.

    Raises:
        TorchFileError: naming what does not fit.
    """
    prefix, found = find_backbone(state, path)
    if name is not None and name != found:
        raise TorchFileError(f"{path}: holds {found}, not {name}")
    network = registry.stock(found)
    below = {
        key[len(prefix) :]: value
        for key, value in state.items()
        # Heads beside the network are passed over.
        if key.startswith(prefix) and re.match(r"(conv1|bn1|layer\d+)\.", key[len(prefix) :])
    }
    try:
        name_maps.load_torch_state(network, to_arrays(below))
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from error
    return network, found, prefix
