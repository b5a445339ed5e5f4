"""The official checkpoints of PixPro (`ckpt_epoch_100.pth`): the whole training state, both ways."""

import argparse
import dataclasses
import io
import os
import re
from collections.abc import Mapping
from typing import Any, Protocol

import keras
import numpy as np

from pixpro_keras.utils.files import write_atomically
from pixpro_keras.weights import name_maps
from pixpro_keras.weights.torch import (
    TorchFileError,
    find_backbone,
    find_state_dict,
    import_torch,
    to_arrays,
)

_MODULE = "module."  # DistributedDataParallel's
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


def is_official_state(state: Mapping[str, Any]) -> bool:
    """Tells if a state dict is of an official pre-training, not of a backbone alone.

    Example:
        ```python
        from pixpro_keras.weights.official import is_official_state

        assert not is_official_state({"layer1.0.conv1.weight": 0})
        ```
    """
    stripped = {name.removeprefix(_MODULE).split(".")[0] for name in state}
    return {"encoder", "encoder_k", "projector", "projector_k"} <= stripped


def parse_official_checkpoint(content: Any, path: str | os.PathLike) -> OfficialCheckpoint:
    """Parses the content of an official checkpoint.

    `save_official_checkpoint` shows it in its example.

    Args:
        content: from `read_torch_file`.
        path: the file, for errors.

    Raises:
        TorchFileError: if it is no official checkpoint, or of a training that we do not have.
    """
    state = find_state_dict(content, path)
    if not is_official_state(state):
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
    """The network of a checkpoint, as arguments.

    `save_official_checkpoint` shows it in its example.

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

    `save_official_checkpoint` shows it in its example.

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
        slot = _momentum_slot(method, variables[name])
        slot.assign(name_maps.from_torch_layout(momentum))


def _inner_optimizer(method: PixProLike) -> Any:
    """Optimizer that holds the momenta, unwrapped from a loss-scale optimizer."""
    return getattr(method.optimizer, "inner_optimizer", method.optimizer)


def _momentum_slot(method: PixProLike, variable: keras.Variable) -> keras.Variable:
    optimizer = _inner_optimizer(method)
    return optimizer.momentums[optimizer._get_variable_index(variable)]


@dataclasses.dataclass(frozen=True)
class TrainingProgress:
    """Schedule of a run, and the step that it has reached.

    Attributes:
        step: optimizer steps done.
        steps_per_epoch: optimizer steps in an epoch.
        epochs: epochs of the whole run.
        warmup_epochs: epochs of linear warm-up from a hundredth of the peak.
        peak_learning_rate: learning rate after the warm-up.
        learning_rate: learning rate of the next step.
    """

    step: int
    steps_per_epoch: int
    epochs: int
    warmup_epochs: float
    peak_learning_rate: float
    learning_rate: float


def save_official_checkpoint(
    method: PixProLike,
    path: str | os.PathLike,
    progress: TrainingProgress,
    options: Mapping[str, Any],
) -> None:
    """Writes the training state of a PixPro, from which the official pre-training continues.

    Args:
        method: the trained `PixPro`, its optimizer built.
        path: the file, written atomically.
        progress: schedule and step of the run.
        options: the official options that correspond to the run, among them `arch`.

    Raises:
        ValueError: if the official code has no such network.
        OSError: if the file cannot be written.
        ImportError: if torch is not installed.

    Example:
        ```python
        import tempfile

        import pixpro_keras
        from pixpro_keras.weights import official
        from pixpro_keras.weights.torch import read_torch_file

        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        method = pixpro_keras.PixPro(backbone, total_steps=100, hidden_dim=16, out_dim=8)
        method.compile(optimizer=pixpro_keras.LARS(1.0))
        method.optimizer.build(method.trainable_variables)
        progress = official.TrainingProgress(
            step=50,
            steps_per_epoch=10,
            epochs=10,
            warmup_epochs=1,
            peak_learning_rate=1.0,
            learning_rate=0.5,
        )
        path = f"{tempfile.mkdtemp()}/ckpt.pth"
        official.save_official_checkpoint(method, path, progress, {"arch": "resnet18"})

        checkpoint = official.parse_official_checkpoint(read_torch_file(path), path)
        print(official.describe_network(checkpoint))
        official.load_official_checkpoint(method, checkpoint)
        assert method.steps_done() == 50
        ```
    """
    variables = official_variables(method)
    momenta = _to_tensors(
        {
            name: name_maps.to_torch_layout(
                keras.ops.convert_to_numpy(_momentum_slot(method, variable))
            )
            for name, variable in variables.items()
            if variable.trainable
        }
    )
    optimizer = _optimizer_state(momenta, progress, _inner_optimizer(method))
    state = {"optimizer": optimizer, "scheduler": _scheduler_state(progress)}
    _write(path, variables, progress, options, state)


def save_official_backbone(
    backbone: keras.Model,
    path: str | os.PathLike,
    progress: TrainingProgress,
    options: Mapping[str, Any],
) -> None:
    """Writes a backbone alone, for the official transfer and linear scripts.

    Args:
        backbone: a v1_5 ResNet, trained by any method.
        path: the file, written atomically.
        progress: schedule and step of the run.
        options: the official options that correspond to the run, among them `arch`.

    Raises:
        ValueError: if the backbone is another network.
        OSError: if the file cannot be written.
        ImportError: if torch is not installed.

    Example:
        ```python
        import tempfile

        import pixpro_keras
        from pixpro_keras.weights.official import TrainingProgress, save_official_backbone

        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        progress = TrainingProgress(
            step=100,
            steps_per_epoch=10,
            epochs=10,
            warmup_epochs=1,
            peak_learning_rate=1.0,
            learning_rate=0.0,
        )
        path = f"{tempfile.mkdtemp()}/backbone.pth"
        save_official_backbone(backbone, path, progress, {"arch": "resnet18"})
        pixpro_keras.load_backbone(path)
        ```
    """
    named = name_maps.torch_variables(backbone)
    variables = {f"encoder.{name}": variable for name, variable in named.items()}
    _write(path, variables, progress, options, {})


def _to_tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    torch = import_torch("writing")
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _write(
    path: str | os.PathLike,
    variables: Mapping[str, keras.Variable],
    progress: TrainingProgress,
    options: Mapping[str, Any],
    training_state: Mapping[str, Any],
) -> None:
    torch = import_torch("writing")
    arrays = name_maps.to_torch_state_dict(variables, num_batches=progress.step)
    ordered = {_MODULE + name: arrays[name] for name in sorted(arrays, key=_registration_order)}
    content = {
        # The authors' code stores a Namespace here, which torch.load refuses by default, but never reads it.
        "opt": dict(options),
        "epoch": progress.step // progress.steps_per_epoch,
        "model": _to_tensors(ordered),
        **training_state,
    }
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
    """Sort key of a weight: order of registration in the official modules.

    The state of the official optimizer is numbered in this order.
    """
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


def _optimizer_state(
    momenta: Mapping[str, Any], progress: TrainingProgress, optimizer
) -> dict[str, Any]:
    """State of torch's SGD under the official LARS: 1-d parameters first, then the rest."""
    ordered = sorted(momenta, key=_registration_order)
    groups = (
        [n for n in ordered if momenta[n].ndim == 1],
        [n for n in ordered if momenta[n].ndim > 1],
    )
    shared = {
        "lr": progress.learning_rate,
        "initial_lr": progress.peak_learning_rate,
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


def _scheduler_state(progress: TrainingProgress) -> dict[str, Any]:
    """State of the official warm-up around torch's cosine schedule."""
    warmup_steps = round(progress.warmup_epochs * progress.steps_per_epoch)
    decay_steps = progress.epochs * progress.steps_per_epoch - warmup_steps
    shared = {
        "base_lrs": [progress.peak_learning_rate] * 2,
        "_last_lr": [progress.learning_rate] * 2,
    }
    cosine = shared | {
        "T_max": decay_steps,
        "eta_min": 1e-6,
        "last_epoch": max(progress.step - warmup_steps, 0),
        "_step_count": max(progress.step - warmup_steps, 0) + 1,
    }
    if not warmup_steps:
        return cosine
    return shared | {
        "multiplier": 100,
        "warmup_epoch": warmup_steps,
        "finished": False,
        "last_epoch": progress.step,
        "_step_count": progress.step + 1,
        "after_scheduler": cosine,
    }
