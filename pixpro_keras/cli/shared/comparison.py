"""Runs of a job for several backbones, with one table of results."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import keras
from absl import logging

from pixpro_keras import backbones
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.compare_options import CompareOptions
from pixpro_keras.cli.options.evaluation_options import NEW_WEIGHTS, RANDOM
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.shared import command
from pixpro_keras.cli.shared.result_files import results_table, write_table
from pixpro_keras.training.run_config import RunResult
from pixpro_keras.visualize.comparison_chart import draw_comparison
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.weights.load import IMAGENET, keras_file, load_backbone

OptionsT = TypeVar("OptionsT", bound=CompareOptions)

_BASELINES = (RANDOM, IMAGENET)
_MOST_PANELS = 4  # Measures in the chart; the table has all.


def run_each(options: OptionsT, run: Callable[[OptionsT], RunResult], name: str) -> RunResult:
    """Runs a job, once or for each backbone of `--compare`.

    Of several it writes `compare.md`, `compare.json` and `compare.png`.

    Args:
        options: options of the job.
        run: the job, which writes its results to `NAME.json` in its `--workdir`.
        name: name of that file.

    Returns:
        The result of the last backbone, or of the one during which a signal arrived.

    Raises:
        FlagError: if the flags cannot be used.
    """
    if not options.compare:
        return run(options)
    _check(options)
    baseline = _backbone_of_baselines(options)
    folders = _folders(options.compare)
    workdir = pathlib.Path(options.workdir).expanduser()
    command.refuse_run(workdir)
    rows = []
    for weights, folder in zip(options.compare, folders, strict=True):
        backbone = baseline if weights in _BASELINES else options.backbone
        one = options.replace(
            weights=weights, backbone=backbone, workdir=str(workdir / folder), compare=()
        )
        if weights != RANDOM:  # The flags of new weights are meant for the random ones.
            one = one.replace(**{name: getattr(type(options), name) for name in NEW_WEIGHTS})
        logging.info("Comparison, %s: in %s", weights, one.workdir)
        result = run(one)
        keras.backend.clear_session()
        if result.stop_signal is not None:
            return result
        if not result.is_dry_run:
            rows.append(json.loads((workdir / folder / f"{name}.json").read_text()))
    if rows:
        _write(workdir, rows)
        parsing.write_flags(options, workdir)
    return result


def _check(options: CompareOptions) -> None:
    """Checks the options before the first backbone is evaluated."""
    flag = f"--compare={','.join(options.compare)}"
    if options.weights is not None:
        raise FlagError(f"{flag}: replaces --weights={options.weights}; give one of them")
    if options.strategy == "multi_worker":
        raise FlagError(f"{flag}: runs on one machine, not with --strategy=multi_worker")
    for weights in options.compare:
        if options.compare.count(weights) > 1:
            raise FlagError(f"{flag}: {weights} is listed twice")
        is_name = weights in (*_BASELINES, *backbones.available())
        if not is_name and not pathlib.Path(weights).expanduser().exists():
            raise FlagError(f"{flag}: {weights} does not exist")


def _backbone_of_baselines(options: CompareOptions) -> str:
    """Network for `random` and `imagenet`: `--backbone`, else the network of the first weights file."""
    name = options.backbone
    paths = [weights for weights in options.compare if weights not in _BASELINES]
    if not options.is_given("backbone") and paths:
        with flag_errors(options, "compare"):
            network = load_backbone(paths[0])
        own = backbones.name_of(network) or keras_file(paths[0])
        if own is None:
            raise FlagError(
                f"--compare={','.join(options.compare)}: the network in {paths[0]} is called "
                f"{network.name!r}; give its name by --backbone"
            )
        name = own
    with flag_errors(options, "backbone"):
        has_imagenet = backbones.is_keras_application(name)
    if IMAGENET in options.compare and not has_imagenet:
        raise FlagError(
            f"--compare={','.join(options.compare)}: keras.applications has no ImageNet weights of {name}; "
            "give the path of a torch file of torchvision or timm instead of imagenet"
        )
    return name


def _folders(compare: Sequence[str]) -> list[str]:
    """Folder names, one per backbone: the last part of its path, or the whole path if that is not unique."""
    names = [pathlib.PurePath(weights).name for weights in compare]
    return [
        name if names.count(name) == 1 else weights.strip("/").replace("/", "_")
        for weights, name in zip(compare, names, strict=True)
    ]


def _write(workdir: pathlib.Path, all_rows: Sequence[Mapping]) -> None:
    """Prints and writes the table, and plots the first measures."""
    rows = [
        {name: value for name, value in row.items() if not isinstance(value, list | dict)}
        for row in all_rows
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    measures = {
        name: [row.get(name) for row in rows]
        for name in names
        if any(isinstance(row.get(name), float) for row in rows)
    }
    files = {}
    if measures:
        drawn = dict(list(measures.items())[:_MOST_PANELS])
        figure = draw_comparison([row["backbone"] for row in rows], drawn)
        save_figure(figure, workdir / "compare.png")
        files["compare.png"] = "the same, as a chart"
    write_table(workdir, "compare", results_table(rows), all_rows, files)
