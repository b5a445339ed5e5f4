"""Flags of a run that determine its weights, and the history of their changes."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pixpro_keras.backbones import public_name
from pixpro_keras.cli.options.option_fields import option_fields
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.data.sources import split_specification
from pixpro_keras.training.history import Period
from pixpro_keras.weights.load import IMAGENET

# Flags that may change when a run continues. All others are part of its recipe.
FREE_FLAGS = frozenset(
    [
        # Paths and devices; `training.devices` warns if they change rounding.
        *("workdir", "data_dir", "strategy", "precision", "accumulate_steps", "deterministic"),
        *("cluster", "kubernetes_selector", "num_workers"),
        *("worker_timeout_seconds", "start_timeout_seconds", "jit_compile", "remat", "augment_on"),
        *("input_threads", "data_service", "image_cache_share", "steps_per_execution"),
        # Lengths: they may grow, but not fall below the steps done. Their values in steps are part of
        # the recipe.
        *("epochs", "iterations", "steps_per_epoch", "warmup_epochs", "warmup_iterations"),
        *("decay_epochs", "decay_iterations"),
        # Files, logs and errors.
        *("checkpoint_every_steps", "keep_checkpoints", "on_save_error", "on_change", "license"),
        *("dry_run", "tracker"),
        *("max_bad_steps", "max_broken_share", "log_every_steps", "picture_every_steps"),
        # Measurements and tests.
        *("eval_every_epochs", "eval_train_dataset", "eval_test_dataset", "eval_mask_dataset"),
        *("eval_mask_size", "probe", "test_dataset", "test_split", "test_short_side", "bn_batches"),
        *("test_every_iterations", "window_stride", "whole_images"),
        # Part of the checkpoints' identity.
        *("weights", "compare"),
    ]
)
# Kinds of data sets whose specification is no path.
_NOT_ON_DISK = ("scenes", "tfds")


class TrainedPeriod(NamedTuple):
    """Steps of a run that were trained with one recipe."""

    first_step: int
    last_step: int
    recipe: Mapping[str, Any]


def recipe_of(
    options: TrainingJobOptions,
    num_images: int,
    fingerprint: str = "",
    content_fingerprint: str = "",
) -> dict:
    """Returns the recipe of a run: flags by name, lengths in steps, number and checksums of the images.

    A warm-up that takes the whole run has no length of its own, and is not in it.

    Args:
        options: options of the command, resolved.
        num_images: number of training images.
        fingerprint: checksum of their names; empty where it is not known.
        content_fingerprint: checksum of their files; empty where it is not known.
    """
    recipe: dict = {}
    for field in option_fields(type(options)):
        if field.name not in FREE_FLAGS:
            value = getattr(options, field.name)
            if field.name.endswith("dataset") and value is not None:
                value = _absolute(value)
            if field.name == "backbone":
                value = public_name(value)
            if field.name == "init_weights" and value not in (None, IMAGENET):
                value = os.path.abspath(os.path.expanduser(value))
            recipe[field.name] = list(value) if isinstance(value, tuple) else value
    if options.warmup_steps < options.total_steps:
        recipe["warmup_steps"] = options.warmup_steps  # Else a longer run may have a longer one.
    if fingerprint:
        recipe["checksum_of_image_list"] = fingerprint
    if content_fingerprint:
        recipe["checksum_of_file_contents"] = content_fingerprint
    per_epoch = options.steps_per_epoch or 1
    return recipe | {
        "num_images": num_images,
        "decay_steps": [round(float(epoch) * per_epoch) for epoch in options.decay_epochs],
    }


def _absolute(dataset: str) -> str:
    """Specification of one or several data sets, with absolute paths."""
    parts = []
    for part in split_specification(dataset):
        place = place_on_disk(part)
        if place is not None:
            part = f"{part.partition(':')[0]}:{os.path.abspath(place)}"
        parts.append(part)
    return "+".join(parts)


def place_on_disk(specification: str) -> str | None:
    """Path in the specification of a single data set, with the home folder for `~`; None without a path."""
    kind, _, place = specification.partition(":")
    return os.path.expanduser(place) if place and kind not in _NOT_ON_DISK else None


def trained_periods(periods: Sequence[Period], step: int) -> list[TrainedPeriod]:
    """Returns the periods that a checkpoint has gone through.

    Args:
        periods: periods of the run.
        step: steps of the checkpoint.
    """
    starts = [period.first_step for period in periods] + [step]
    ends = [min(start, step) for start in starts[1:]]
    return [
        TrainedPeriod(period.first_step, end, period.recipe)
        for period, end in zip(periods, ends, strict=True)
        if period.first_step < end
    ]


def changed_values(recipes: Sequence[Mapping]) -> list[str]:
    """Returns the values of each recipe that differ between recipes; "not recorded" if it is empty."""
    names = [
        name
        for name in dict.fromkeys(name for recipe in recipes for name in recipe)
        if len({_shown(recipe[name]) for recipe in recipes if name in recipe}) > 1
    ]
    return [
        ", ".join(f"{name}={_shown(recipe[name])}" for name in names if name in recipe)
        if recipe
        else "not recorded"
        for recipe in recipes
    ]


def describe_periods(periods: Sequence[Period]) -> list[str]:
    """Returns lines for `flags.cfg` with the recipe of each period.

    Args:
        periods: periods of the run.

    Returns:
        A line for each period; none where there is only one.
    """
    if len(periods) < 2:
        return []
    texts = changed_values([period.recipe for period in periods])
    lines = [
        f"Steps {one.first_step} to {after.first_step} of this run: {text}"
        for one, after, text in zip(periods, periods[1:], texts, strict=False)
    ]
    last = f": {texts[-1]}" if texts[-1] else ""
    return [*lines, f"Steps from {periods[-1].first_step} on: the flags below{last}"]


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
