"""The official checkpoints of PixPro (`ckpt_epoch_100.pth`): names of the weights, and reading of all state.

`official_export` writes them.
"""

import argparse
import dataclasses
import os
from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np

from pixpro_keras.weights import name_maps
from pixpro_keras.weights.torch import TorchFileError, find_backbone, find_state_dict, to_arrays

MODULE = "module."  # DistributedDataParallel's
_HEADS = ("projector.", "projector_instance.", "predictor.", "value_transform.")


class PixProLike(Protocol):
    """Training state that an official checkpoint holds; `methods.PixPro` has it.

    Attributes:
        encoder: online encoder, with `backbone` and `heads` by name.
        has_target: whether it has a `target_encoder`.
        target_encoder: its moving average.
        propagation: pixel propagation module; None without one.
        instance_branch: layer with the `predictor`; None without one.
        step: optimizer steps done.
        optimizer: LARS, built; under a loss scale its `inner_optimizer` is.
    """

    encoder: Any
    has_target: bool
    target_encoder: Any
    propagation: Any
    instance_branch: Any
    step: keras.Variable
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class OfficialCheckpoint:
    """Content of an official checkpoint.

    Attributes:
        path: the file.
        state: name without `module.` -> array in torch's layout.
        options: the run's options by their official names; empty in published files.
        momenta: momentum of each trained parameter, by name; empty in published files.
        step: optimizer steps done; None if the file does not state it.
        epoch: epochs done; None if the file does not state it.
        peak_learning_rate: learning rate after the warm-up, for the whole batch; None if unknown.
    """

    path: str
    state: Mapping[str, np.ndarray]
    options: Mapping[str, Any]
    momenta: Mapping[str, np.ndarray]
    step: int | None
    epoch: int | None
    peak_learning_rate: float | None


def is_official_state(state: Mapping[str, Any]) -> bool:
    """Tells if a state dict is that of an official pre-training, not only of a backbone.

    Example:
        ```python
        from pixpro_keras.weights.official import is_official_state

        assert not is_official_state({"layer1.0.conv1.weight": 0})
        ```
    """
    stripped = {name.removeprefix(MODULE).split(".")[0] for name in state}
    return {"encoder", "encoder_k", "projector", "projector_k"} <= stripped


def parse_official_checkpoint(content: Any, path: str | os.PathLike) -> OfficialCheckpoint:
    """Parses the content of an official checkpoint.

    `official_export.save_official_checkpoint` shows it in its example.

    Args:
        content: from `read_torch_file`.
        path: the file, for errors.

    Raises:
        TorchFileError: if it is no official checkpoint, or its training is not supported.
    """
    state = find_state_dict(content, path)
    if not is_official_state(state):
        raise TorchFileError(
            f"{path}: no PixPro checkpoint of the release: encoder, encoder_k, projector and "
            "projector_k are not all there"
        )
    state = to_arrays({name.removeprefix(MODULE): tensor for name, tensor in state.items()})
    # Published files hold only the weights.
    options = content.get("opt") or {}
    if isinstance(options, argparse.Namespace):
        options = vars(options)
    clamp = options.get("pixpro_clamp_value", 0.0)
    if clamp != 0:
        raise TorchFileError(
            f"{path}: trained with pixpro_clamp_value={clamp}; only 0 is supported"
        )
    optimizer = content.get("optimizer") or {}
    groups = optimizer.get("param_groups", [])
    return OfficialCheckpoint(
        path=os.fspath(path),
        state=state,
        options=options,
        momenta=_read_momenta(optimizer, state, path),
        step=(content.get("scheduler") or {}).get("last_epoch"),
        epoch=content.get("epoch"),
        peak_learning_rate=groups[0].get("initial_lr") if groups else None,
    )


def _trained_names(state: Mapping[str, np.ndarray]) -> list[str]:
    """Names of trained parameters in the order of the official optimizer: 1-d first, then the rest."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    modules = ("encoder.", *_HEADS)
    trained = [name for name in state if name.startswith(modules) and not name.endswith(statistics)]
    return sorted(trained, key=lambda name: state[name].ndim != 1)  # stable


def _read_momenta(
    optimizer: Mapping[str, Any], state: Mapping[str, np.ndarray], path: str | os.PathLike
) -> dict[str, np.ndarray]:
    slots = optimizer.get("state", {})
    buffers = {
        index: slot["momentum_buffer"]
        for index, slot in slots.items()
        if slot.get("momentum_buffer") is not None
    }
    if not buffers:
        return {}
    order = [index for group in optimizer["param_groups"] for index in group["params"]]
    trained = _trained_names(state)
    if len(optimizer["param_groups"]) != 2 or len(order) != len(trained):
        raise TorchFileError(
            f"{path}: its optimizer is not LARS as the release builds it: {len(order)} parameters in "
            f"{len(optimizer['param_groups'])} groups for {len(trained)} trained ones. Its backbone "
            "alone converts with the layout torchvision"
        )
    arrays = to_arrays({name: buffers[index] for name, index in zip(trained, order, strict=True)})
    for name, array in arrays.items():
        if array.shape != state[name].shape:
            raise TorchFileError(
                f"{path}: the momentum of {name} has the shape {array.shape} instead of "
                f"{state[name].shape}"
            )
    return arrays


def describe_network(checkpoint: OfficialCheckpoint) -> dict[str, Any]:
    """Describes the network of a checkpoint by the arguments that build it.

    `official_export.save_official_checkpoint` shows it in its example.

    Returns:
        `backbone`: a name; and arguments of `PixPro`: `num_transform_layers`, `hidden_dim`,
        `out_dim`, `instance_weight`, and, if the file states them, `gamma`, `threshold` and
        `base_momentum`.

    Raises:
        TorchFileError: if it holds no ResNet of `backbones.available()`.
    """
    state = checkpoint.state
    below = {name: array for name, array in state.items() if name.startswith("encoder.")}
    _, backbone = find_backbone(below, checkpoint.path)
    layers = 0
    if "value_transform.weight" in state:
        layers = 1
    elif "value_transform.linear1.weight" in state:
        layers = 2
    out_dim, hidden_dim = state["projector.linear2.weight"].shape[:2]
    has_instance = "predictor.linear1.weight" in state
    network = {
        "backbone": backbone,
        "num_transform_layers": layers,
        "hidden_dim": hidden_dim,
        "out_dim": out_dim,
        "instance_weight": checkpoint.options.get("pixpro_ins_loss_weight", 1.0)
        if has_instance
        else 0.0,
    }
    renamed = {
        "pixpro_p": "gamma",
        "pixpro_pos_ratio": "threshold",
        "pixpro_momentum": "base_momentum",
    }
    return network | {
        ours: checkpoint.options[theirs]
        for theirs, ours in renamed.items()
        if theirs in checkpoint.options
    }


def official_variables(method: PixProLike) -> dict[str, keras.Variable]:
    """Official name (without `module.`) of each weight of a PixPro -> our variable.

    Args:
        method: a `PixPro`.

    Raises:
        ValueError: if the official code has no such network.

    Example:
        ```python
        import pixpro_keras
        from pixpro_keras.weights.official import official_variables

        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        method = pixpro_keras.PixPro(backbone, total_steps=1, hidden_dim=16, out_dim=8)
        assert "projector_k.linear1.weight" in official_variables(method)
        ```
    """
    propagation, branch = method.propagation, method.instance_branch
    if "pixel" not in method.encoder.heads or propagation is None:
        raise ValueError("the release has no PixPro without pixel loss or propagation module")
    if not method.has_target:
        raise ValueError("the release has no PixPro without a target encoder")
    if propagation.num_transform_layers > 2:
        raise ValueError("the release's propagation module has at most 2 transform layers")
    if branch is not None and branch.predictor is None:
        raise ValueError("the release's instance branch has the form predictor")
    named: dict[str, keras.Variable] = {}
    for encoder, suffix in ((method.encoder, ""), (method.target_encoder, "_k")):
        for name, variable in name_maps.torch_variables(encoder.backbone).items():
            named[f"encoder{suffix}.{name}"] = variable
        named |= _head(encoder.heads["pixel"].layers, f"projector{suffix}")
        if "instance" in encoder.heads:
            named |= _head(encoder.heads["instance"].layers, f"projector_instance{suffix}")
    if propagation.transform is not None:
        layers = propagation.transform.layers
        if len(layers) == 1:  # a bare convolution
            named |= name_maps.named_variables(layers, lambda name: "value_transform")
        else:
            named |= _head(layers, "value_transform")
    if branch is not None and branch.predictor is not None:
        named |= _head(branch.predictor.layers, "predictor")
    return named


def _head(layers: list[keras.layers.Layer], prefix: str) -> dict[str, keras.Variable]:
    return name_maps.named_variables(layers, lambda name: f"{prefix}.{name}")


def load_official_checkpoint(method: PixProLike, checkpoint: OfficialCheckpoint) -> None:
    """Loads a whole checkpoint: both networks, heads, momenta, step.

    `official_export.save_official_checkpoint` shows it in its example.

    Args:
        method: `PixPro` of the checkpoint's network (`describe_network`), compiled with LARS, which is
            built.
        checkpoint: from `parse_official_checkpoint`.

    Raises:
        ValueError: naming what does not fit; nothing is loaded then.
    """
    variables = official_variables(method)
    name_maps.assign_state_dict(variables, checkpoint.state, "PixPro")
    if checkpoint.step is not None:
        method.step.assign(checkpoint.step)
        method.optimizer.iterations.assign(checkpoint.step)
    for name, momentum in checkpoint.momenta.items():
        slot = momentum_slot(method, variables[name])
        slot.assign(name_maps.from_torch_layout(momentum))


def inner_optimizer(method: PixProLike) -> Any:
    """Optimizer that holds the momenta, unwrapped from a loss-scale optimizer.

    Args:
        method: compiled `PixPro`.

    Example:
        ```python
        import pixpro_keras
        from pixpro_keras.weights import official

        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        method = pixpro_keras.PixPro(backbone, total_steps=1, hidden_dim=16, out_dim=8)
        method.compile(optimizer=pixpro_keras.LARS(1.0))
        method.optimizer.build(method.trainable_variables)
        print(official.inner_optimizer(method).name)
        ```
    """
    return getattr(method.optimizer, "inner_optimizer", method.optimizer)


def momentum_slot(method: PixProLike, variable: keras.Variable) -> keras.Variable:
    """Momentum of a trained variable.

    Args:
        method: compiled `PixPro`, its optimizer built.
        variable: one of its trainable variables.

    Example:
        ```python
        import pixpro_keras
        from pixpro_keras.weights import official

        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        method = pixpro_keras.PixPro(backbone, total_steps=1, hidden_dim=16, out_dim=8)
        method.compile(optimizer=pixpro_keras.LARS(1.0))
        method.optimizer.build(method.trainable_variables)
        print(official.momentum_slot(method, method.trainable_variables[0]).shape)
        ```
    """
    optimizer = inner_optimizer(method)
    return optimizer.momentums[optimizer._get_variable_index(variable)]
