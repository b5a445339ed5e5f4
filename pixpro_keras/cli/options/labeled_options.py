"""Options of jobs that learn from labelled images, and the images they name."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.shared.command import flag_errors
from pixpro_keras.data.labels import read_labels, stratified_subset
from pixpro_keras.data.sources import Source, open_source, prepare_tfds
from pixpro_keras.data.sources.specification import path_hint
from pixpro_keras.evaluation.features import Features, extract_features, image_batches
from pixpro_keras.types import Tensor
from pixpro_keras.utils.errors import first_line

LabeledT = TypeVar("LabeledT", bound="LabeledOptions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabeledOptions(Options):
    """Options of labelled images."""

    dataset: str | None = option(
        None,
        "Labelled images with a training and a test part: folder:PATH (PATH/train and PATH/val, a folder "
        "for each class in both), tfds:NAME[/config], scenes.",
        is_main=True,
    )
    train_dataset: str | None = option(
        None, "Labelled images to learn from, instead of --dataset's; see --dataset of pretrain.py."
    )
    test_dataset: str | None = option(
        None, "Labelled images to be right about, instead of --dataset's."
    )


@dataclasses.dataclass(frozen=True)
class LabeledParts:
    """Training and test images with their labels.

    Attributes:
        train: training images.
        train_labels: `(N,)` int32.
        test: test images.
        test_labels: `(M,)` int32.
        num_classes: labels are in [0, num_classes).
    """

    train: Source
    train_labels: np.ndarray
    test: Source
    test_labels: np.ndarray
    num_classes: int


def resolve_parts(options: LabeledT, data_dir: str | None) -> LabeledT:
    """Returns options with both parts named.

    Raises:
        FlagError: if one is not given.
    """
    if options.dataset is not None:
        with flag_errors(options, "dataset"):
            train, test = _parts(options.dataset, data_dir)
        options = options.replace(
            train_dataset=options.train_dataset or train, test_dataset=options.test_dataset or test
        )
    for name in ("train_dataset", "test_dataset"):
        if getattr(options, name) is None:
            raise FlagError(f"--dataset or --{name} must be given")
    return options


def open_parts(options: Options, train: str, test: str, data_dir: str | None) -> LabeledParts:
    """Opens training and test images with their labels.

    Args:
        options: that name them.
        train: name of the option with the training images.
        test: name of the option with the test images.
        data_dir: where TFDS keeps its data sets.

    Raises:
        FlagError: if they cannot be opened, not all images have labels, or the classes differ.
    """
    train_source, train_labels = _open_labeled(options, train, data_dir)
    test_source, test_labels = _open_labeled(options, test, data_dir)
    if train_source.class_names != test_source.class_names:
        raise FlagError(
            f"{train_source.name} and {test_source.name} have other classes: the names of their "
            "folders differ"
        )
    num_classes = int(max(train_labels.max(), test_labels.max())) + 1
    return LabeledParts(train_source, train_labels, test_source, test_labels, num_classes)


def choose_labeled(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Returns the positions of the training images that `--label_fraction` leaves."""
    return stratified_subset(labels, fraction, seed)


def frozen_features(
    backbone: keras.Model,
    source: Source,
    image_size: int,
    preprocess: Callable[[Tensor], Tensor],
    batch_size: int = 64,
    strategy: tf.distribute.Strategy | None = None,
) -> Features:
    """Returns the pooled features of all images of a source.

    Raises:
        FlagError: if an image cannot be decoded.
    """
    with image_errors(source.name):
        batches = image_batches(source, image_size, preprocess, batch_size)
        return extract_features(backbone, batches, strategy=strategy)


@contextlib.contextmanager
def image_errors(name: str) -> Iterator[None]:
    """Turns TensorFlow's error about a broken image into one about the data set."""
    try:
        yield
    # Errors of TensorFlow's decoders, and of Python under them.
    except (tf.errors.InvalidArgumentError, tf.errors.UnknownError) as error:
        raise FlagError(f"an image of {name} cannot be decoded: {first_line(error)}") from error


def image_shape(flag: str, values: Sequence[str] | None) -> tuple[int, int] | None:
    """Returns the height and width that a list flag gives, or None.

    Raises:
        FlagError: if it does not give two positive numbers.
    """
    if not values:
        return None
    if len(values) != 2 or not all(value.isdecimal() and int(value) for value in values):
        raise FlagError(f"--{flag}={','.join(values)}: must be height,width in pixels")
    return int(values[0]), int(values[1])


def _open_labeled(options: Options, name: str, data_dir: str | None) -> tuple[Source, np.ndarray]:
    spec = getattr(options, name)
    if spec is None:
        raise FlagError(f"--{name} must be given")
    with flag_errors(options, name):
        source = open_source(spec, data_dir=data_dir)
        labels = read_labels(source)
        missing = np.flatnonzero(labels < 0)
        if len(missing):
            raise ValueError(
                f"{len(missing)} of {source.num_examples} images have no label, such as "
                f"{source.describe(int(missing[0]))}; labels are a folder for each class"
            )
    return source, labels


def _parts(spec: str, data_dir: str | None) -> tuple[str, str]:
    """The training part and the test part of a data set."""
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        root = pathlib.Path(rest).expanduser()
        test = "val" if (root / "val").is_dir() else "test"
        return f"folder:{rest}/train", f"folder:{rest}/{test}"
    if spec == "scenes":
        return "scenes:train", "scenes:validation"
    if kind == "tfds" and rest and ":" not in rest:
        splits = prepare_tfds(rest, data_dir).info.splits
        test = "validation" if "validation" in splits else "test"
        return f"{spec}:train", f"{spec}:{test}"
    raise ValueError(
        "must be folder:PATH, tfds:NAME[/config] or scenes; other sources go to --train_dataset and "
        f"--test_dataset{path_hint(spec, ['folder'])}"
    )
