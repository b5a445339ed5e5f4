"""Options of labeled images, and the images that they name."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.cli.options.evaluation_options import (
    EvaluatedBackbone,
    EvaluationOptions,
    check_finite,
)
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.options.split_options import SplitOptions, log_split, refuse_fraction
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.labels import read_labels, select, stratified_subset, warn_of_shared
from pixpro_keras.data.lookalikes import only_in
from pixpro_keras.data.sources import Source, open_source, prepare_tfds, split_specification
from pixpro_keras.data.sources.folder import find_folder
from pixpro_keras.data.sources.specification import path_hint
from pixpro_keras.evaluation.features import INDEX, Features, extract_features, image_batches
from pixpro_keras.types import Tensor
from pixpro_keras.utils.bars import with_bar

# Names of folders, in lower case, that are not classes.
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}

LabeledT = TypeVar("LabeledT", bound="LabeledOptions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabeledOptions(SplitOptions):
    """Options of labeled images."""

    dataset: str | None = option(
        None,
        "Labeled images with a training and a test part: folder:PATH (PATH/train and PATH/val with one "
        "folder per class; or one folder per class in PATH, split by --val_fraction), tfds:NAME[/config],"
        " scenes.",
        is_main=True,
    )
    train_dataset: str | None = option(
        None,
        "Labeled training images, instead of those of --dataset; see --dataset of pixpro-pretrain.",
    )
    test_dataset: str | None = option(None, "Labeled test images, instead of those of --dataset.")


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


def resolve_parts(options: LabeledT) -> LabeledT:
    """Returns options with both parts named.

    Raises:
        FlagError: if one is not given.
    """
    if options.dataset is not None:
        with flag_errors(options, "dataset"):
            train, test = _parts(options.dataset, options.data_dir)
        options = options.replace(
            train_dataset=options.train_dataset or train, test_dataset=options.test_dataset or test
        )
    for name in ("train_dataset", "test_dataset"):
        if getattr(options, name) is None:
            raise FlagError(f"--dataset or --{name} must be given")
    if not _is_whole(options):
        refuse_fraction(options, f"--dataset={options.dataset or options.test_dataset}")
    return options


def _is_whole(options: LabeledOptions) -> bool:
    """Returns True if `--dataset` has no splits, so that training and test part are cut from it."""
    return options.train_dataset == options.test_dataset == options.dataset


def open_parts(options: LabeledOptions) -> LabeledParts:
    """Opens the images of options that `resolve_parts` returned; see `open_pair`."""
    if _is_whole(options):
        return _split(options, *_open_labeled(options, "train_dataset", options.data_dir))
    return open_pair(options, "train_dataset", "test_dataset", options.data_dir)


def open_pair(options: Options, train: str, test: str, data_dir: str | None) -> LabeledParts:
    """Opens training and test images with their labels.

    Args:
        options: options that name the images.
        train: name of the option with the training images.
        test: name of the option with the test images.
        data_dir: directory of TFDS data sets.

    Raises:
        FlagError: if they cannot be opened, not all images have labels, the classes differ, or all training
            images are of one class.
    """
    train_source, train_labels = _open_labeled(options, train, data_dir)
    test_source, test_labels = _open_labeled(options, test, data_dir)
    matched = _match_classes(train_source, test_source)
    if matched is not test_source:
        test_source, test_labels = matched, read_labels(matched)
    _require_classes(train_source, train_labels)
    warn_of_shared(train_source, test_source)
    num_classes = int(max(train_labels.max(), test_labels.max())) + 1
    return LabeledParts(train_source, train_labels, test_source, test_labels, num_classes)


def _split(options: LabeledOptions, source: Source, labels: np.ndarray) -> LabeledParts:
    """Splits a data set into training and test part, with the same fraction of each class."""
    _require_classes(source, labels)
    chosen = stratified_subset(labels, options.val_fraction, options.seed, num_left=1)
    log_split(options, len(chosen), len(labels), source.name)
    kept = np.setdiff1d(np.arange(len(labels)), chosen)
    if not len(chosen):
        raise FlagError(f"{source.name}: no class has a second image, for the test")
    return LabeledParts(
        select(source, kept),
        labels[kept],
        select(source, chosen),
        labels[chosen],
        int(labels.max()) + 1,
    )


def _require_classes(source: Source, labels: np.ndarray) -> None:
    """Refuses images of one class, which any features tell apart from none."""
    if len(np.unique(labels)) < 2:
        names = source.class_names
        name = labels[0] if names is None else names[labels[0]]
        raise FlagError(
            f"{source.name}: all {len(labels)} images are of the class {name}, so that nothing can be told"
            " apart"
        )


def _match_classes(train: Source, test: Source) -> Source:
    """Test images with labels renumbered to the training classes.

    Raises:
        FlagError: if the test images have classes that the training images lack, or only one of both has
            names of classes.
    """
    if train.class_names == test.class_names:
        return test
    if train.class_names is None or test.class_names is None:
        nameless, named = (train, test) if train.class_names is None else (test, train)
        raise FlagError(
            f"{nameless.name} has labels without names of classes, which cannot be compared with those of "
            f"{named.name}; records have names if pixpro-make-tfrecords packs a folder for each class"
        )
    known, found = train.class_names, test.class_names
    if set(found) - set(known):
        raise FlagError(
            f"{train.name} and {test.name} have other classes: only the first has {only_in(known, found)}, "
            f"only the second has {only_in(found, known)}"
        )
    logging.warning("%s has no image of these classes: %s", test.name, only_in(known, found))
    numbers = tf.constant([known.index(name) for name in found], tf.int32)

    def read(index: Tensor) -> dict[str, Tensor]:
        example = test.read(index)
        return example | {"label": numbers[example["label"]]}

    return dataclasses.replace(test, read=read, class_names=known)


def frozen_features(
    options: EvaluationOptions,
    backbone: EvaluatedBackbone,
    source: Source,
    strategy: tf.distribute.Strategy | None = None,
    batch_size: int = 64,
) -> Features:
    """Returns the pooled features of all images of a source.

    Images that cannot be decoded are skipped and logged by name, as in pre-training.

    Args:
        options: image size, and the largest share of images that cannot be decoded.
        backbone: measured in inference mode.
        source: labeled images.
        strategy: devices that share the work.
        batch_size: images that go through the backbone together.

    Raises:
        BrokenImagesError: if more images cannot be decoded.
        FlagError: if features are not finite.
    """
    broken = BrokenImages(source, options.max_broken_share)
    batches = readable_batches(source, options.image_size, backbone.preprocess, batch_size, broken)
    shown = with_bar(batches, f"features of {source.name}", source.num_examples, size=batch_size)
    features = extract_features(backbone.network, shown, strategy=strategy)
    check_finite(options, features.pooled, source.name)
    return features


def readable_batches(
    source: Source,
    image_size: int,
    preprocess: Callable[[Tensor], Tensor],
    batch_size: int,
    broken: BrokenImages,
) -> Iterator[dict[str, Tensor]]:
    """Returns the batches of `features.image_batches` without the images that cannot be decoded.

    Args:
        source: labeled images.
        image_size: side of the square images in pixels.
        preprocess: function from RGB in 0..255 to the backbone's convention.
        batch_size: images per batch.
        broken: count of the source's broken images, which the log names once.

    Raises:
        BrokenImagesError: once too many images cannot be decoded.
    """
    batches = image_batches(source, image_size, preprocess, batch_size, pass_over_broken=True)
    return broken.watch(batches, lambda batch: batch[INDEX].numpy())


def _open_labeled(options: Options, name: str, data_dir: str | None) -> tuple[Source, np.ndarray]:
    spec = getattr(options, name)
    if spec is None:
        raise FlagError(f"--{name} must be given")
    is_part = options.is_given("dataset") and not options.is_given(name)
    with flag_errors(options, "dataset" if is_part else name):
        source = open_source(spec, data_dir=data_dir)
        labels = read_labels(source)
        missing = np.flatnonzero(labels < 0)
        if len(missing) == source.num_examples and len(split_specification(spec)) > 1:
            raise ValueError(
                "the images have no labels: joined data sets must have the same classes"
            )
        if len(missing):
            raise ValueError(
                f"{len(missing)} of {source.num_examples} images have no label, such as "
                f"{source.describe(int(missing[0]))}; labels are a folder for each class"
            )
    return source, labels


def _parts(spec: str, data_dir: str | None) -> tuple[str, str]:
    """Specifications of the training part and the test part of a data set."""
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        root = find_folder(rest)
        test = "val" if (root / "val").is_dir() else "test"
        if not any((root / name).is_dir() for name in ("train", test)) and _has_classes(root):
            return spec, spec
        missing = [name for name in ("train", test) if not (root / name).is_dir()]
        if missing:
            raise ValueError(
                f"it must have the folders train and val, or train and test, each with a folder of images "
                f"for each class, or these folders of classes themselves; there is no {root / missing[0]}"
            )
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


def _has_classes(root: pathlib.Path) -> bool:
    """Returns True if the subfolders look like classes: more than one, and none named like a split."""
    names = [path.name.lower() for path in root.iterdir() if path.is_dir()]
    names = [name for name in names if name[0] not in "._"]
    return len(names) > 1 and not set(names) & _SPLITS
