"""Model card of a run's export, from its flags, log and devices."""

import contextlib
import json
import pathlib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pixpro_keras.backbones import public_name
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.method_options import ModelOptions
from pixpro_keras.cli.options.option_fields import option_fields
from pixpro_keras.cli.shared import run_recipe
from pixpro_keras.data.sources import split_specification
from pixpro_keras.task import Task
from pixpro_keras.training.history import read_history
from pixpro_keras.utils.checksums import SUMS_FILE, ManifestError, read_manifest
from pixpro_keras.utils.metrics_file import METRICS_FILE, read_metrics
from pixpro_keras.version import __version__
from pixpro_keras.weights.card import write_card
from pixpro_keras.weights.export import CONTENT_BY_FILE

# Format of `pixpro-export` beside `FORMATS`, and its file.
TORCH, TORCH_FILE = "torch", "release.pth"

# Paths of a machine are left out of a card.
_PLACES = re.compile(
    r"--(workdir|data_dir|init_weights|input|output|checkpoint|data_service|license|\w*dataset)=.*"
    r"|--backbone=.*\.keras"
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
        options: options of the run, resolved.
        license_name: license of the weights.
        workdir: the run's directory, with its `flags.cfg`.
        folder: folder of the export.
        method: the trained model.
        num_images: number of images in `--dataset`, where it is known.

    Returns:
        The file.

    Raises:
        OSError: if it cannot be written.
    """
    step = method.steps_done()
    lines = parsing.read_flags(workdir / parsing.FLAGS_FILE)
    periods = run_recipe.trained_periods(read_history(workdir), step)
    if periods:  # A run continued with other flags may have made no step with them.
        options, lines = _trained(options, lines, periods[-1].recipe)
    run = dict(line.removeprefix("--").split("=", 1) for line in lines if "=" in line)
    devices = _read_json(workdir / "devices.json")
    versions = [f"{name} {devices[name]}" for name in ("tensorflow", "keras") if name in devices]
    if not periods:  # Converted checkpoints and old versions have no records.
        data = {"dataset": run.get("dataset", "not known"), "num_images": num_images}
        data["batch_size"] = options.batch_size
        periods = [run_recipe.TrainedPeriod(0, step, data)]
    initial = run.get("init_weights")
    return write_card(
        folder,
        options.backbone,
        title=f"{public_name(options.backbone)}, pre-trained with {options.method}",
        facts={
            "Data": _by_period(periods, _data),
            "Method": options.method,
            **({} if initial is None else {"Initial weights": pathlib.PurePath(initial).name}),
            "Augmentation": f"{run.get('augmentation', 'not known')}, views of {options.image_size} px",
            "Steps": _steps(periods, step, options.steps_per_epoch),
            **_story(periods),
            "Precision": run.get("precision", "not known"),
            "Versions": ", ".join([f"pixpro_keras {__version__}", *versions]),
        },
        metrics=_last_metrics(workdir, step),
        flags=[line for line in lines if not _PLACES.fullmatch(line)],
        license_name=license_name,
    )


@contextlib.contextmanager
def naming_outdated(folder: pathlib.Path, *flags: str) -> Iterator[None]:
    """Context of an export that prints which existing files are of other weights than the new ones.

    These files stay, but `SHA256SUMS` and the card no longer list them; see `utils.listing`.

    Args:
        folder: folder of the export.
        *flags: flags of `pixpro-export` that choose the weights and the folder.
    """
    before = _listed(folder)
    try:
        yield
    finally:
        outdated = sorted(x for x in before - _listed(folder) if (folder / x).exists())
        if outdated:
            print(
                f"Of other weights, and no longer in the model card and {SUMS_FILE}: "
                f"{', '.join(str(folder / name) for name in outdated)}"
            )
        known = CONTENT_BY_FILE | {TORCH_FILE: (TORCH, "c5")}
        formats: dict[str, list[str]] = {}
        for name in outdated:
            if name in known:
                chosen, features = known[name]
                formats.setdefault(features, []).append(chosen)
        for features, names in formats.items():
            outputs = [] if features == "c5" else [f"--features={features}"]
            command = ["pixpro-export", *flags, f"--format={','.join(names)}", *outputs]
            print(f"To write them again: {shlex.join(command)}")


def _listed(folder: pathlib.Path) -> set[str]:
    """Files and folders that the checksums of an export list; none if these cannot be read."""
    try:
        return {name.partition("/")[0] for name in read_manifest(folder / SUMS_FILE)}
    except ManifestError:
        return set()


def _trained(
    options: ModelOptions, lines: list[str], recipe: Mapping[str, Any]
) -> tuple[ModelOptions, list[str]]:
    """Replaces values of options and flags by those of a recipe."""
    # A recipe has no path of the backbone, which cannot change.
    known = {field.name for field in option_fields(type(options))} & set(recipe) - {"backbone"}
    if not known:
        return options, lines
    options = options.replace(**{name: recipe[name] for name in known})
    pattern = re.compile(rf"--(no)?({'|'.join(known)})(=.*)?")
    kept = [line for line in lines if not pattern.fullmatch(line)]
    return options, sorted([*kept, *parsing.serialize(options, *known)])


def _by_period(
    periods: Sequence[run_recipe.TrainedPeriod], describe: Callable[[Mapping], str]
) -> str:
    """Describes a fact for each period with its steps, or once if it is the same in all periods."""
    facts = [describe(period.recipe) for period in periods]
    if len(set(facts)) == 1:
        return facts[0]
    return "; ".join(
        f"{fact} (steps {period.first_step} to {period.last_step})"
        for fact, period in zip(facts, periods, strict=True)
    )


def _data(recipe: Mapping) -> str:
    if not recipe:
        return "not known"
    data, count = _without_folders(recipe["dataset"]), recipe["num_images"]
    return f"{data}, {count:,} images" if count else data


def _steps(
    periods: Sequence[run_recipe.TrainedPeriod], step: int, steps_per_epoch: int | None
) -> str:
    batches = _by_period(periods, lambda recipe: f"{recipe.get('batch_size', 'an unknown number')}")
    is_alike = len({_data(period.recipe) for period in periods}) == 1 and ";" not in batches
    text = f"{step:,} of {batches} images"
    if not (steps_per_epoch and is_alike):
        return text
    epochs = step / steps_per_epoch
    return f"{text} ({epochs:g} epoch{'s' if epochs != 1 else ''})"


def _story(periods: Sequence[run_recipe.TrainedPeriod]) -> dict[str, str]:
    """Row about flags that changed during the run; empty if none did."""
    if len(periods) == 1:
        return {}
    shown = [
        {
            name: _without_folders(value) if name.endswith("dataset") and value else value
            for name, value in period.recipe.items()
            if name != "init_weights"  # They have a row of their own.
        }
        for period in periods
    ]
    parts = [
        f"steps {period.first_step} to {period.last_step}: {text}"
        for period, text in zip(periods, run_recipe.changed_values(shown), strict=True)
    ]
    return {"History": "; ".join(parts)}


def _without_folders(dataset: str) -> str:
    """Specification of one or several data sets, without parent folders."""
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
    """Newest line of a run's log up to a step; empty if the log cannot be read."""
    try:
        lines: list[dict[str, Any]] = read_metrics(workdir / METRICS_FILE)
    except (OSError, ValueError):
        return {}
    return max((x for x in lines if x["step"] <= step), key=lambda x: x["step"], default={})
