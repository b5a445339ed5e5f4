"""The authors' checkpoints (`ckpt_epoch_100.pth`): their whole training state to ours and back."""

import argparse
import dataclasses
import io
import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from pixpro_keras.methods import PixPro, PretrainMethod
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.weights import name_maps
from pixpro_keras.weights.torch import TorchFileError, find_backbone, state_dict_of, to_arrays

_MODULE = "module."  # DistributedDataParallel's
_HEADS = ("projector.", "projector_instance.", "predictor.", "value_transform.")


@dataclasses.dataclass(frozen=True)
class ReleaseCheckpoint:
    """A checkpoint of the release.

    Attributes:
        path: the file.
        state: name without `module.` -> array in torch's layout.
        options: the run's options by the release's names; empty in published files.
        momenta: momentum of each trained parameter, by name; empty in published files.
        step: optimizer steps done, None where the file does not say.
        epoch: epochs done, None where the file does not say.
        peak_learning_rate: after warm-up, for the run's whole batch; None where unknown.
    """

    path: str
    state: Mapping[str, np.ndarray]
    options: Mapping[str, Any]
    momenta: Mapping[str, np.ndarray]
    step: int | None
    epoch: int | None
    peak_learning_rate: float | None


def is_release_state(state: Mapping[str, Any]) -> bool:
    """Whether a state dict is of the release's pre-training, not of a backbone alone."""
    stripped = {name.removeprefix(_MODULE).split(".")[0] for name in state}
    return {"encoder", "encoder_k", "projector", "projector_k"} <= stripped


def parse_release(content: Any, path: str | os.PathLike) -> ReleaseCheckpoint:
    """A checkpoint of the release from what its file holds.

    Args:
        content: from `read_torch_file`.
        path: the file, for errors.

    Raises:
        TorchFileError: if it is none of the release's, or trained in a way that we do not have.
    """
    state = state_dict_of(content, path)
    if not is_release_state(state):
        raise TorchFileError(
            f"{path}: no PixPro checkpoint of the release: encoder, encoder_k, projector and "
            "projector_k are not all there"
        )
    state = to_arrays({name.removeprefix(_MODULE): tensor for name, tensor in state.items()})
    # Published files hold the weights alone.
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
    return ReleaseCheckpoint(
        path=os.fspath(path),
        state=state,
        options=options,
        momenta=_read_momenta(optimizer, state, path),
        step=(content.get("scheduler") or {}).get("last_epoch"),
        epoch=content.get("epoch"),
        peak_learning_rate=groups[0].get("initial_lr") if groups else None,
    )


def _trained_names(state: Mapping[str, np.ndarray]) -> list[str]:
    """The trained parameters in the order of the release's optimizer: 1-d ones, then the rest."""
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


def describe_network(checkpoint: ReleaseCheckpoint) -> dict[str, Any]:
    """The network of a checkpoint, as arguments.

    Returns:
        `backbone`: a name; and arguments of `PixPro`: `num_transform_layers`, `hidden_dim`,
        `out_dim`, `instance_weight`, and where the file says them `gamma`, `threshold`,
        `base_momentum`.

    Raises:
        TorchFileError: if there is no ResNet of ours in it.
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


def release_variables(method: PixPro) -> dict[str, keras.Variable]:
    """The release's name (without `module.`) of each weight of a PixPro -> our variable.

    Raises:
        ValueError: if the release has no such network.
    """
    propagation, branch = method.propagation, method.instance_branch
    if "pixel" not in method.encoder.heads or propagation is None:
        raise ValueError("the release has no PixPro without pixel loss or propagation module")
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


def load_release(method: PixPro, checkpoint: ReleaseCheckpoint) -> None:
    """Loads all that a checkpoint holds: both networks, heads, momenta, position.

    Args:
        method: of the checkpoint's network (`describe_network`), compiled with LARS, which is built.
        checkpoint: from `parse_release`.

    Raises:
        ValueError: naming what does not fit; nothing is loaded then.
    """
    variables = release_variables(method)
    name_maps.assign_torch_state(variables, checkpoint.state, "PixPro")
    if checkpoint.step is not None:
        method.step.assign(checkpoint.step)
        method.optimizer.iterations.assign(checkpoint.step)
    for name, momentum in checkpoint.momenta.items():
        slot = _momentum_slot(method, variables[name])
        slot.assign(name_maps.from_torch_layout(momentum))


def _inner_optimizer(method: PretrainMethod) -> Any:
    """The optimizer that keeps the momenta; under a loss scale it lies inside another."""
    return getattr(method.optimizer, "inner_optimizer", method.optimizer)


def _momentum_slot(method: PretrainMethod, variable: keras.Variable) -> keras.Variable:
    optimizer = _inner_optimizer(method)
    return optimizer.momentums[optimizer._get_variable_index(variable)]


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a run stands in its schedule.

    Attributes:
        step: optimizer steps done.
        steps_per_epoch: optimizer steps in an epoch.
        epochs: of the whole run.
        warmup_epochs: of linear warm-up from a hundredth of the peak.
        peak_learning_rate: learning rate after the warm-up.
        learning_rate: of the next step.
    """

    step: int
    steps_per_epoch: int
    epochs: int
    warmup_epochs: float
    peak_learning_rate: float
    learning_rate: float


def save_release(
    method: PretrainMethod,
    path: str | os.PathLike,
    position: Position,
    options: Mapping[str, Any],
) -> None:
    """Writes a checkpoint that the authors' scripts read.

    Of a PixPro all is written, and their pre-training continues from it; of another method the online
    backbone, for their transfer and linear scripts.

    Args:
        method: the trained method, its optimizer built.
        path: the file, written atomically.
        position: where the run stands.
        options: the release's options that the run answers to, among them `arch`.

    Raises:
        ValueError: if the release has no such network.
        OSError: if the file cannot be written.
        ImportError: if torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "writing torch files needs PyTorch: pip install 'pixpro-keras[torch]'"
        ) from error

    def tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    content: dict[str, Any] = {
        "opt": argparse.Namespace(**options),
        "epoch": position.step // position.steps_per_epoch,
    }
    if isinstance(method, PixPro):
        variables = release_variables(method)
        momenta = tensors(
            {
                name: name_maps.to_torch_layout(
                    keras.ops.convert_to_numpy(_momentum_slot(method, variable))
                )
                for name, variable in variables.items()
                if variable.trainable
            }
        )
        content["optimizer"] = _optimizer_state(momenta, position, _inner_optimizer(method))
        content["scheduler"] = _scheduler_state(position)
    else:
        online = name_maps.torch_variables(method.encoder.backbone)
        variables = {f"encoder.{name}": variable for name, variable in online.items()}
    arrays = name_maps.torch_state(variables, num_batches=position.step)
    ordered = {_MODULE + name: arrays[name] for name in sorted(arrays, key=_registration_order)}
    content["model"] = tensors(ordered)
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


_MODULES = (
    "encoder",
    "projector",
    "encoder_k",
    "projector_k",
    "value_transform",
    "projector_instance",
    "projector_instance_k",
    "predictor",
)
_WEIGHTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _registration_order(name: str) -> tuple:
    """Sorts names as the release's modules register them, which numbers its optimizer's slots."""
    module, *path, weight = name.split(".")
    key: list[tuple[int, int]] = []
    for part in path:
        number = re.search(r"\d+$", part)
        if part == "downsample":  # after the convolutions of its block
            key.append((9, 0))
        elif part.startswith("layer"):  # after the stem
            key.append((10 + int(part[-1]), 0))
        else:
            key.append((int(number.group()) if number else 0, int(part.startswith("bn"))))
    return _MODULES.index(module), key, _WEIGHTS.index(weight)


def _optimizer_state(momenta: Mapping[str, Any], position: Position, optimizer) -> dict[str, Any]:
    """State of torch's SGD under the release's LARS: 1-d parameters first, then the rest."""
    ordered = sorted(momenta, key=_registration_order)
    groups = (
        [n for n in ordered if momenta[n].ndim == 1],
        [n for n in ordered if momenta[n].ndim > 1],
    )
    shared = {
        "lr": position.learning_rate,
        "initial_lr": position.peak_learning_rate,
        "momentum": optimizer.sgd_momentum,
        "dampening": 0,
        "nesterov": False,
    }
    split = len(groups[0])
    return {
        "state": {
            index: {"momentum_buffer": momenta[name]}
            for index, name in enumerate([*groups[0], *groups[1]])
        },
        "param_groups": [
            shared | {"weight_decay": 0, "ignore": True, "params": list(range(split))},
            shared
            | {
                "weight_decay": optimizer.l2_decay,
                "ignore": False,
                "params": list(range(split, len(ordered))),
            },
        ],
    }


def _scheduler_state(position: Position) -> dict[str, Any]:
    """State of the release's warm-up around torch's cosine schedule."""
    warmup_steps = round(position.warmup_epochs * position.steps_per_epoch)
    decay_steps = position.epochs * position.steps_per_epoch - warmup_steps
    shared = {
        "base_lrs": [position.peak_learning_rate] * 2,
        "_last_lr": [position.learning_rate] * 2,
    }
    cosine = shared | {
        "T_max": decay_steps,
        "eta_min": 1e-6,
        "last_epoch": max(position.step - warmup_steps, 0),
        "_step_count": max(position.step - warmup_steps, 0) + 1,
    }
    if not warmup_steps:
        return cosine
    return shared | {
        "multiplier": 100,
        "warmup_epoch": warmup_steps,
        "finished": False,
        "last_epoch": position.step,
        "_step_count": position.step + 1,
        "after_scheduler": cosine,
    }
