"""Flags of evaluations: which backbone and which labelled images."""

import json
import pathlib
from collections.abc import Callable

import backbone_flags
import keras
import labelled
import numpy as np
from absl import flags, logging
from common_flags import FLAGS, FlagError, blame

from pixpro_keras import backbones
from pixpro_keras.batch import Tensor
from pixpro_keras.data.labels import select, stratified_subset
from pixpro_keras.data.sources import Source
from pixpro_keras.files import write_atomically

flags.DEFINE_string(
    "weights",
    None,
    "Backbone to look at: the folder of a run or conversion, .keras, .weights.h5, .pth or detectron2 "
    ".pkl. Default: --backbone with random weights.",
)
flags.DEFINE_string(
    "train_dataset", None, "Labelled images to learn from; see --dataset of pretrain.py."
)
flags.DEFINE_string("test_dataset", None, "Labelled images to be right about.")
flags.DEFINE_float(
    "label_fraction",
    1.0,
    "Share of the training images whose labels are used, in (0, 1]; of each class alike, at least one.",
)
flags.register_validator("label_fraction", lambda x: 0 < x <= 1, "must be in (0, 1]")


def load_backbone() -> tuple[keras.Model, Callable[[Tensor], Tensor], str]:
    """The backbone, its input convention, and what to call it in a table.

    Raises:
        FlagError: if it cannot be loaded, or does not say which network it is.
    """
    if FLAGS.weights is None:
        backbone_flags.check_backbone()
        backbone = backbone_flags.build_backbone()
        logging.warning("No --weights: %s with random weights", FLAGS.backbone)
        return backbone, backbones.preprocess_input(FLAGS.backbone), f"{FLAGS.backbone}, random"
    with blame("weights"):
        backbone = backbones.load_backbone(FLAGS.weights)
    with blame("backbone"):
        return backbone, backbones.preprocess_input(network_name(backbone)), FLAGS.weights


def network_name(backbone: keras.Model) -> str:
    """What `backbones` knows a loaded network by: `--backbone` where it is given, else its own name.

    Raises:
        FlagError: if neither is known.
    """
    if FLAGS["backbone"].present:
        return FLAGS.backbone
    if backbone.name.lower() in backbones.available():
        return backbone.name.lower()
    raise FlagError(
        f"--weights={FLAGS.weights}: the network there is called {backbone.name!r}; --backbone says "
        "which one it is"
    )


def open_training_part() -> tuple[Source, np.ndarray]:
    """The labelled training images that `--label_fraction` leaves, and their labels."""
    source, labels = labelled.open_labelled("train_dataset")
    chosen = stratified_subset(labels, FLAGS.label_fraction, FLAGS.seed)
    return select(source, chosen), labels[chosen]


def write_results(workdir: pathlib.Path, job: str, results: dict) -> None:
    """Prints a row of results and writes it as `JOB.json` and `JOB.md`.

    Args:
        workdir: where to.
        job: name of the files.
        results: column -> text, count or share; shares are shown in percent.
    """
    shown = [f"{v:.1%}" if isinstance(v, float) else str(v) for v in results.values()]
    rows = [list(results), ["---"] * len(results), shown]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
    write_atomically(workdir / f"{job}.json", json.dumps(results, indent=2).encode())
    write_atomically(workdir / f"{job}.md", table.encode())
    print(f"\n{table}\nIn {workdir}: {job}.md, {job}.json")
