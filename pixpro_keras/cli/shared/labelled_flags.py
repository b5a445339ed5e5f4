"""Flags of jobs that learn from labelled images: the training part and the test part."""

import pathlib

import numpy as np
from absl import flags

from pixpro_keras.cli.shared import labelled
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.data.labels import stratified_subset
from pixpro_keras.data.sources import Source, prepare_tfds

flags.DEFINE_string(
    "dataset",
    None,
    "Labelled images with a training and a test part: folder:PATH (PATH/train and PATH/val, a folder "
    "for each class in both), tfds:NAME[/config], scenes.",
)
flags.DEFINE_string(
    "train_dataset",
    None,
    "Labelled images to learn from, instead of --dataset's; see --dataset of pretrain.py.",
)
flags.DEFINE_string(
    "test_dataset", None, "Labelled images to be right about, instead of --dataset's."
)


def open_parts() -> tuple[Source, np.ndarray, Source, np.ndarray]:
    """Training images with their labels, and test images with theirs.

    Raises:
        FlagError: if they cannot be opened, or not all images have labels.
    """
    if FLAGS.dataset is not None:
        with blame("dataset"):
            parts = _parts(FLAGS.dataset)
        for flag, part in zip(("train_dataset", "test_dataset"), parts, strict=True):
            FLAGS[flag].value = FLAGS[flag].value or part
    for flag in ("train_dataset", "test_dataset"):
        if FLAGS[flag].value is None:
            raise FlagError(f"--dataset or --{flag} must be given")
    train, labels = labelled.open_labelled("train_dataset")
    test, test_labels = labelled.open_labelled("test_dataset")
    return train, labels, test, test_labels


def choose(labels: np.ndarray) -> np.ndarray:
    """Positions of the training images that `--label_fraction` leaves."""
    return stratified_subset(labels, FLAGS.label_fraction, FLAGS.seed)


def _parts(spec: str) -> tuple[str, str]:
    """The training part and the test part of a data set."""
    kind, _, rest = spec.partition(":")
    if kind == "folder" and rest:
        root = pathlib.Path(rest).expanduser()
        test = "val" if (root / "val").is_dir() else "test"
        return f"folder:{rest}/train", f"folder:{rest}/{test}"
    if spec == "scenes":
        return "scenes:train", "scenes:validation"
    if kind == "tfds" and rest and ":" not in rest:
        splits = prepare_tfds(rest, FLAGS.data_dir).info.splits
        test = "validation" if "validation" in splits else "test"
        return f"{spec}:train", f"{spec}:{test}"
    raise ValueError(
        "must be folder:PATH, tfds:NAME[/config] or scenes; other sources go to --train_dataset and "
        "--test_dataset"
    )
