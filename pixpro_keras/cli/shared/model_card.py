"""The model card of a run's export, from its flags, its log and what it ran on."""

import json
import pathlib
import re
from typing import Any

from pixpro_keras.cli.options.method_options import ModelOptions
from pixpro_keras.data.sources import split_specification
from pixpro_keras.task import Task
from pixpro_keras.training.callbacks.run_log import read_metrics
from pixpro_keras.version import __version__
from pixpro_keras.weights.card import write_card

# Where things lie on a machine is nothing for a card.
_PLACES = re.compile(
    r"--(workdir|data_dir|input|output|checkpoint|data_service|license|\w*dataset)=.*"
)


def write(
    options: ModelOptions,
    license_name: str,
    workdir: pathlib.Path,
    folder: pathlib.Path,
    method: Task,
    num_images: int | None = None,
) -> pathlib.Path:
    """Writes the card of an export.

    Args:
        options: of the run, resolved.
        license_name: licence of the weights.
        workdir: the run's directory, with its `flags.cfg`.
        folder: where the export is.
        method: the trained model.
        num_images: number of images in `--dataset`, where it is known.

    Returns:
        The file.

    Raises:
        OSError: if it cannot be written.
    """
    step = method.steps_done()
    lines = (workdir / "flags.cfg").read_text().splitlines()
    run = dict(line.removeprefix("--").split("=", 1) for line in lines if "=" in line)
    devices = _read_json(workdir / "devices.json")
    versions = [f"{name} {devices[name]}" for name in ("tensorflow", "keras") if name in devices]
    epochs = f" ({step / options.steps_per_epoch:g} epochs)" if options.steps_per_epoch else ""
    data = _public_name(run.get("dataset", "not known"))
    return write_card(
        folder,
        options.backbone,
        title=f"{options.backbone}, pre-trained with {options.method}",
        facts={
            "Data": f"{data}, {num_images:,} images" if num_images else data,
            "Method": options.method,
            "Augmentation": f"{run.get('augmentation', 'not known')}, views of {options.image_size} px",
            "Steps": f"{step:,} of {options.batch_size} images{epochs}",
            "Precision": run.get("precision", "not known"),
            "Versions": ", ".join([f"pixpro_keras {__version__}", *versions]),
        },
        metrics=_last_metrics(workdir, step),
        flags=[line for line in lines if not _PLACES.fullmatch(line)],
        license_name=license_name,
    )


def _public_name(dataset: str) -> str:
    """A data set, or several, without the folders above them."""
    names = []
    for part in split_specification(dataset):
        kind, _, place = part.partition(":")
        is_place = kind in ("folder", "tfrecord")
        names.append(f"{kind}:{pathlib.PurePath(place).name}" if is_place else part)
    return "+".join(names)


def _read_json(file: pathlib.Path) -> dict:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _last_metrics(workdir: pathlib.Path, step: int) -> dict[str, Any]:
    """Newest line of a run's log, up to a step; empty where the log cannot be read."""
    try:
        lines: list[dict[str, Any]] = read_metrics(workdir)
    except (OSError, ValueError):
        return {}
    return max((x for x in lines if x["step"] <= step), key=lambda x: x["step"], default={})
