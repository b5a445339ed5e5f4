"""Options of data sets without splits."""

import dataclasses

import numpy as np
from absl import logging

from pixpro_keras.cli.options.option_fields import FlagError, option
from pixpro_keras.cli.options.run_options import RunOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitOptions(RunOptions):
    """Options of data without splits."""

    val_fraction: float = option(
        0.2,
        "Fraction of the images of a data set without splits that are the test set, chosen by --seed.",
        above=0,
        below=1,
    )


def random_split(options: SplitOptions, count: int, data: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of the training and of the test images of a data set without splits.

    Args:
        options: share of the test images, and seed.
        count: number of images.
        data: name of the data set, for the log.

    Raises:
        ValueError: if no image is left to train on.
    """
    num_test = max(1, round(options.val_fraction * count))
    if num_test >= count:
        raise ValueError(f"no image is left to train on, of {count}")
    order = np.random.default_rng(options.seed).permutation(count)
    log_split(options, num_test, count, data)
    return np.sort(order[num_test:]), np.sort(order[:num_test])


def log_split(options: SplitOptions, num_test: int, count: int, data: str) -> None:
    """Logs the split of a data set without splits; see `random_split`."""
    logging.info(
        "%s has no splits: %d of its %d images are the test (--val_fraction=%g, --seed=%d), the others are "
        "trained on.",
        data,
        num_test,
        count,
        options.val_fraction,
        options.seed,
    )


def refuse_fraction(options: SplitOptions, data: str) -> None:
    """Refuses `--val_fraction` for a data set with a test split; a preset may contain it.

    Raises:
        FlagError: naming both flags.
    """
    if "val_fraction" in options.on_command_line:
        raise FlagError(f"--val_fraction={options.val_fraction:g}: {data} has a test of its own")
