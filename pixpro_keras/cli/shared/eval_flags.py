"""Flags of evaluations: which backbone, and how many labels; how results are written."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from absl import flags, logging

from pixpro_keras import backbones
from pixpro_keras.cli.shared import backbone_flags
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.training.workers import is_multi_worker
from pixpro_keras.types import Tensor
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.utils.markdown import markdown_table
from pixpro_keras.weights import load

flags.DEFINE_string(
    "weights",
    None,
    "Backbone to look at: the folder of a run or conversion, .keras, .h5, .pth or detectron2 .pkl; "
    "--backbone says which network it is where the file does not. Default: --backbone with random "
    "weights.",
)
flags.DEFINE_float(
    "label_fraction",
    1.0,
    "Share of the training images whose labels are used, in (0, 1]; of each class alike, at least one.",
)
flags.register_validator("label_fraction", lambda x: 0 < x <= 1, "must be in (0, 1]")


def load_backbone(
    synchronized: bool = False,
) -> tuple[keras.Model, Callable[[Tensor], Tensor], str]:
    """The backbone as the flags want it, its input convention, and what to call it in a table.

    `--backbone` becomes its name, which `flags.cfg` then states.

    Args:
        synchronized: whether batch norm takes its statistics over all replicas.

    Raises:
        FlagError: if it cannot be loaded, or does not say which network it is.
    """
    loaded, label = None, f"{FLAGS.backbone}, random"
    if FLAGS.weights is not None:
        said = FLAGS.backbone if FLAGS["backbone"].present else None
        with blame("weights"):
            loaded = load.load_backbone(FLAGS.weights, name=said)
        FLAGS["backbone"].value = _network_name(loaded, said)
        label = FLAGS.weights
    backbone_flags.check_backbone()
    backbone = backbone_flags.build_backbone(synchronized)
    if loaded is not None:
        with blame("weights", "backbone"):
            backbones.copy_weights(loaded, backbone)
    logging.info("Backbone: %s, %s", FLAGS.backbone, FLAGS.weights or "with random weights")
    return backbone, backbones.preprocess_input(FLAGS.backbone), label


def _network_name(backbone: keras.Model, said: str | None) -> str:
    """What `backbones` knows a loaded network by: its own name, or else `--backbone`."""
    own = backbone.name.lower()
    if own not in backbones.available():
        if said is None:
            raise FlagError(
                f"--weights={FLAGS.weights}: the network there is called {backbone.name!r}; "
                "--backbone says which one it is"
            )
        return said
    if said not in (None, own):
        raise FlagError(f"--backbone={said}: --weights={FLAGS.weights} is {own}")
    return own


def check_one_machine(strategy: tf.distribute.Strategy, what: str) -> None:
    """Refuses several machines, for what would be done by each of them.

    Raises:
        FlagError: naming the strategy.
    """
    if is_multi_worker(strategy):
        raise FlagError(f"--strategy={FLAGS.strategy}: {what} runs on one machine")


def fill_batch(chosen: np.ndarray) -> np.ndarray:
    """Repeats the examples that `--label_fraction` left, where they are fewer than a batch."""
    if FLAGS.label_fraction == 1 or not len(chosen):
        return chosen
    return np.tile(chosen, -(-FLAGS.batch_size // len(chosen)))


def write_results(
    workdir: pathlib.Path, job: str, results: dict, **tables: Sequence[Mapping]
) -> None:
    """Prints results and writes them as `JOB.json` and `JOB.md`.

    Args:
        workdir: where to.
        job: name of the files.
        results: column -> text, count or share; shares are shown in percent.
        **tables: more rows, under their table's name.
    """
    parts = [_table([results])]
    parts += [
        f"{name.replace('_', ' ')}:\n\n{_table(rows)}" for name, rows in tables.items() if rows
    ]
    text = "\n".join(parts)
    stored = json.dumps(results | tables, indent=2)
    write_atomically(workdir / f"{job}.json", stored.encode())
    write_atomically(workdir / f"{job}.md", text.encode())
    print(f"\n{text}\nIn {workdir}: {job}.md, {job}.json")


def _table(rows: Sequence[Mapping]) -> str:
    return markdown_table(list(rows[0]), [map(_shown, row.values()) for row in rows]) + "\n"


def _shown(value) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if isinstance(value, float) else str(value)
