"""ResNets in torch files: official checkpoints, torchvision's, timm's and those of other methods."""

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

SAFETENSORS_SUFFIX = ".safetensors"
_NO_SAFETENSORS = "safetensors files need safetensors: pip install 'pixpro-keras[torch]'"
# Keys under which checkpoints store the weights, if they are not a plain state dict. DINO's authors
# evaluate the teacher.
_STATE_KEYS = ("model", "state_dict", "model_state_dict", "teacher", "student")
# Prefixes that training tools put before the names of a whole model.
_WRAPPERS = ("module.", "model.", "_orig_mod.")
# The parts of timm's deep stem -> their names in the release.
_TIMM_STEM = {
    "conv1.0": "conv1.0.0",
    "conv1.1": "conv1.0.1",
    "conv1.3": "conv1.1.0",
    "conv1.4": "conv1.1.1",
    "conv1.6": "conv1.2",
}
# Names of the online backbone in published checkpoints, in the order of preference.
_ONLINE = (
    "encoder.",  # the official PixPro, SoCo
    "encoder_q.",  # MoCo, SlotCon
    "base_encoder.",  # MoCo v3
    "online_net.",  # BYOL of mmselfsup
    "online_network.encoder.",
    "teacher.backbone.",  # DINO
    "teacher_backbone.",
    "teacher.",
    "student.backbone.",
    "student_backbone.",
    "student.",
    "backbone.",  # DenseCL, mmselfsup, lightly
    "",
)
# First bytes of torch files: a zip archive, or a pickle as before torch 1.6.
_STARTS = (b"PK", b"\x80")


class TorchFileError(ValueError):
    """A torch file that cannot be read or has other contents than expected."""


def import_torch(purpose: str) -> Any:
    """Imports torch, for `"reading"` or `"writing"` files.

    Raises:
        ImportError: if torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{purpose} torch files needs PyTorch: pip install 'pixpro-keras[torch]'"
        ) from error
    return torch


def read_torch_file(path: str | os.PathLike) -> Any:
    """Reads a file of `torch.save` without running code from it, or one of safetensors.

    Tensors, plain Python values and `argparse.Namespace` are admitted, nothing else.

    Raises:
        TorchFileError: if the file is missing, truncated, of another kind, or needs other imports.
        ImportError: if torch is not installed.

    Example:
        ```python
        import tempfile

        import torch

        from pixpro_keras.weights.torch import find_state_dict, read_torch_file

        path = f"{tempfile.mkdtemp()}/weights.pth"
        torch.save({"model": {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "epoch": 3}, path)
        state_dict = find_state_dict(read_torch_file(path), path)
        assert list(state_dict) == ["conv1.weight"]
        ```
    """
    torch = import_torch("reading")
    if not os.path.isfile(path):
        raise TorchFileError(f"{path}: no such file")
    if os.fspath(path).endswith(SAFETENSORS_SUFFIX):
        return _read_safetensors(path)
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
                f"{path}: the file imports {wanted.group(1)}, which could run code; only "
                "tensors, plain values and argparse.Namespace are read"
            ) from error
        with open(path, "rb") as file:
            is_torch = file.read(2).startswith(_STARTS)
        if not is_torch:
            raise TorchFileError(f"{path}: not a torch file") from error
        # Without torch's advice to run code from the file.
        reason = re.search(r"WeightsUnpickler error:\s*(.+)", text)
        raise TorchFileError(
            f"{path}: no complete torch file ({reason[1] if reason else first_line(error)})"
        ) from error


def _read_safetensors(path: str | os.PathLike) -> dict[str, Any]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(_NO_SAFETENSORS) from error
    try:
        return load_file(path)
    except Exception as error:  # A class of its own, not one of Python's.
        raise TorchFileError(f"{path}: no complete safetensors file ({error})") from error


def find_state_dict(content: Any, path: str | os.PathLike) -> dict[str, Any]:
    """Finds the state dict in the content of a torch file: name -> tensor.

    Weights of ResNets that were saved as a `Sequential` of numbered parts get torchvision's names.

    Args:
        content: from `read_torch_file`, which shows both in its example.
        path: the file, for errors.

    Raises:
        TorchFileError: if there is none.
    """
    candidates = [content]
    if isinstance(content, Mapping):
        candidates = [content[key] for key in _STATE_KEYS if key in content] + candidates
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            state_dict = {k: v for k, v in candidate.items() if hasattr(v, "detach")}
            if state_dict:
                return _name_numbered(state_dict)
    found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise TorchFileError(f"{path}: no state dict, only {found or 'an empty dict'}")


def to_arrays(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts tensors of any precision to float32 arrays; integers keep their type."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in state_dict.items()
    }


def find_backbone(state_dict: Mapping[str, Any], path: str | os.PathLike) -> tuple[str, str]:
    """Finds a ResNet in a state dict.

    Args:
        state_dict: name -> tensor or array.
        path: the file, for errors.

    Returns:
        Prefix of its weights' names, and its own name for `backbones.build`.

    Raises:
        TorchFileError: if there is no ResNet, or several of which none is known as the online one.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.weights.name_maps import to_torch_state_dict, torch_variables
        from pixpro_keras.weights.torch import find_backbone

        arrays = to_torch_state_dict(torch_variables(backbones.build("resnet18_v1_5")))
        state_dict = {f"module.encoder_q.{name}": x for name, x in arrays.items()}
        print(find_backbone(state_dict, "moco.pth"))  # ('module.encoder_q.', 'resnet18_v1_5')
        ```
    """
    end = "layer1.0.conv1.weight"
    prefixes = [name.removesuffix(end) for name in state_dict if name.endswith(end)]
    ranks = {prefix: rank for prefix in prefixes if (rank := _rank(prefix)) is not None}
    if not prefixes:
        raise TorchFileError(
            f"{path}: no ResNet in torchvision's names, whose first block is called {end}; it holds "
            f"{', '.join(list(state_dict)[:3])}, ..."
        )
    if not ranks and len(prefixes) > 1:
        raise TorchFileError(
            f"{path}: several ResNets, below {', '.join(prefixes)}, and none known as the backbone"
        )
    prefix = min(ranks, key=ranks.__getitem__) if ranks else prefixes[0]
    is_deep = any(f"{prefix}conv1.{part}.weight" in state_dict for part in ("0.0", "6"))
    if f"{prefix}conv1.weight" not in state_dict and not is_deep:
        raise TorchFileError(
            f"{path}: the ResNet below {prefix!r} has no stem conv1.weight, nor one of three "
            "convolutions as in ResNet-D"
        )
    blocks = tuple(_num_blocks(state_dict, f"{prefix}layer{stage}.") for stage in range(1, 5))
    is_basic = f"{prefix}layer1.0.conv3.weight" not in state_dict
    groups = {}
    if not is_basic:
        groups = resnet.grouping(state_dict[f"{prefix}layer1.0.conv2.weight"].shape)
    try:
        architecture = resnet.Architecture(blocks, is_basic, **groups, is_deep=is_deep)
        return prefix, resnet.resnet_name(architecture)
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from error


def _rank(prefix: str) -> int | None:
    """Rank of a prefix in the order of preference; None if it is not that of a known online backbone."""
    while wrapper := next((x for x in _WRAPPERS if prefix.startswith(x)), None):
        prefix = prefix[len(wrapper) :]
    if prefix.endswith(".0."):  # the first of a Sequential: mmselfsup's backbone before its neck
        prefix = prefix.removesuffix("0.")
    return _ONLINE.index(prefix) if prefix in _ONLINE else None


def _name_numbered(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Renames weights of ResNets made of `Sequential(*children)` to torchvision's names, if there are any.

    There, convolution and batch norm of the stem are modules 0 and 1. The stages are the four numbered
    modules whose first block has a `conv1`.
    """
    stages: dict[str, list[int]] = {}
    for name in state_dict:
        match = re.fullmatch(r"((?:.*\.)?)(\d+)\.0\.conv1\.weight", name)
        if match:
            stages.setdefault(match.group(1), []).append(int(match.group(2)))
    renamed = dict(state_dict)
    for prefix, numbers in stages.items():
        has_stem = f"{prefix}0.weight" in state_dict and f"{prefix}1.running_mean" in state_dict
        if len(numbers) != 4 or not has_stem:
            continue
        names = {"0": "conv1", "1": "bn1"}
        names |= {str(number): f"layer{i}" for i, number in enumerate(sorted(numbers), 1)}
        renamed = {_rename(name, prefix, names): tensor for name, tensor in renamed.items()}
    return renamed


def _rename(name: str, prefix: str, names: Mapping[str, str]) -> str:
    """Renames the part of a weight's name after a prefix, if `names` has that part."""
    part, dot, rest = name[len(prefix) :].partition(".")
    is_part = name.startswith(prefix) and part in names
    return f"{prefix}{names[part]}{dot}{rest}" if is_part else name


def _name_in_stem(name: str) -> str:
    """Name in the authors' release of a weight of timm's deep stem, whose layers are numbered."""
    part, _, weight = name.rpartition(".")
    return f"{_TIMM_STEM.get(part, part)}.{weight}"


def torchvision_state_dict(network: keras.Model) -> dict[str, np.ndarray]:
    """Weights of a ResNet as torchvision and timm name them, in torch's layout, without a classifier.

    ResNet-D, which torchvision does not have, has timm's names.

    Args:
        network: one of the paper's ResNets.

    Raises:
        ValueError: if it is another network.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.weights.torch import torchvision_state_dict

        state_dict = torchvision_state_dict(backbones.build("resnet18_v1_5"))
        assert state_dict["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
        ```
    """
    state_dict = name_maps.to_torch_state_dict(name_maps.torch_variables(network))
    timm = {ours: theirs for theirs, ours in _TIMM_STEM.items()}
    renamed = {}
    for name, array in state_dict.items():
        part, _, weight = name.rpartition(".")
        renamed[f"{timm.get(part, part)}.{weight}"] = array
    return renamed


def save_torchvision(network: keras.Model, path: str | os.PathLike) -> None:
    """Writes `torchvision_state_dict` of a network as a torch file.

    Raises:
        ImportError: if torch is not installed.
        OSError: if it cannot be written.
    """
    torch = import_torch("writing")
    arrays = torchvision_state_dict(network)
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


def save_safetensors(network: keras.Model, path: str | os.PathLike) -> None:
    """Writes `torchvision_state_dict` of a network as a safetensors file, without torch.

    Raises:
        ImportError: if safetensors is not installed.
        OSError: if it cannot be written.
    """
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise ImportError(_NO_SAFETENSORS) from error
    save_file(torchvision_state_dict(network), path, {"format": "pt"})


def _num_blocks(state_dict: Mapping[str, Any], prefix: str) -> int:
    below = [name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)]
    return len({name.split(".")[0] for name in below})


def backbone_from_state_dict(
    state_dict: Mapping[str, Any], path: str | os.PathLike, name: str | None = None
) -> tuple[keras.Model, str, str]:
    """The plain float32 ResNet in a torch state dict.

    Args:
        state_dict: name -> tensor.
        path: the file, for errors.
        name: name of the expected network; default: any.

    Returns:
        The network, its name, and the prefix of its weights in the state dict.

    Raises:
        TorchFileError: naming what does not fit.

    Example:
        ```python
        import torch

        from pixpro_keras import backbones
        from pixpro_keras.weights.name_maps import to_torch_state_dict, torch_variables
        from pixpro_keras.weights.torch import backbone_from_state_dict

        arrays = to_torch_state_dict(torch_variables(backbones.build("resnet18_v1_5")))
        state_dict = {f"backbone.{name}": torch.tensor(x) for name, x in arrays.items()}
        network, name, prefix = backbone_from_state_dict(state_dict, "weights.pth")
        assert (name, prefix) == ("resnet18_v1_5", "backbone.")
        ```
    """
    prefix, found = find_backbone(state_dict, path)
    if name is not None and name != found:
        raise TorchFileError(f"{path}: holds {found}, not {name}")
    network = registry.plain_network(found)
    below = {
        _name_in_stem(key[len(prefix) :]): value
        for key, value in state_dict.items()
        # Other heads are skipped.
        if key.startswith(prefix) and re.match(r"(conv1|bn1|layer\d+)\.", key[len(prefix) :])
    }
    try:
        name_maps.load_torch_state_dict(network, to_arrays(below))
    except ValueError as error:
        raise TorchFileError(f"{path}: {error}") from error
    return network, found, prefix
