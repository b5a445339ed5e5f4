"""Writing of official checkpoints of PixPro: the whole training state, or only a backbone."""

import dataclasses
import io
import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from pixpro_keras.utils.files import write_atomically
from pixpro_keras.weights import name_maps
from pixpro_keras.weights.official import (
    MODULE,
    PixProLike,
    inner_optimizer,
    momentum_slot,
    official_variables,
)
from pixpro_keras.weights.torch import import_torch

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
        from pixpro_keras.weights import official, official_export
        from pixpro_keras.weights.torch import read_torch_file

        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        method = pixpro_keras.PixPro(backbone, total_steps=100, hidden_dim=16, out_dim=8)
        method.compile(optimizer=pixpro_keras.LARS(1.0))
        method.optimizer.build(method.trainable_variables)
        progress = official_export.TrainingProgress(
            step=50,
            steps_per_epoch=10,
            epochs=10,
            warmup_epochs=1,
            peak_learning_rate=1.0,
            learning_rate=0.5,
        )
        path = f"{tempfile.mkdtemp()}/ckpt.pth"
        official_export.save_official_checkpoint(method, path, progress, {"arch": "resnet18"})

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
                keras.ops.convert_to_numpy(momentum_slot(method, variable))
            )
            for name, variable in variables.items()
            if variable.trainable
        }
    )
    optimizer = _optimizer_state(momenta, progress, inner_optimizer(method))
    state = {"optimizer": optimizer, "scheduler": _scheduler_state(progress)}
    _write(path, variables, progress, options, state)


def save_official_backbone(
    backbone: keras.Model,
    path: str | os.PathLike,
    progress: TrainingProgress,
    options: Mapping[str, Any],
) -> None:
    """Writes only a backbone, for the official transfer and linear scripts.

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
        from pixpro_keras.weights.official_export import TrainingProgress, save_official_backbone

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
    ordered = {MODULE + name: arrays[name] for name in sorted(arrays, key=_registration_order)}
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
