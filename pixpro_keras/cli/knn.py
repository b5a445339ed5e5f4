"""Weighted k-NN on the pooled features of a frozen backbone.

pixpro-knn --weights=runs/mine --dataset=folder:PATH --image_size=128

Writes `knn.md` and `knn.json` to `--workdir`.
"""

import dataclasses
import pathlib

import keras

from pixpro_keras.cli.options.cluster_options import DeviceOptions, make_devices
from pixpro_keras.cli.options.compare_options import CompareOptions
from pixpro_keras.cli.options.evaluation_options import check_one_machine, read_backbone
from pixpro_keras.cli.options.flag_errors import refuse_unused
from pixpro_keras.cli.options.labeled_options import (
    LabeledOptions,
    frozen_features,
    open_parts,
    resolve_parts,
)
from pixpro_keras.cli.options.option_fields import (
    FlagError,
    option,
    with_default,
    without_effect,
)
from pixpro_keras.cli.options.parsing import write_flags
from pixpro_keras.cli.options.run_options import resolve_precision
from pixpro_keras.cli.shared import command
from pixpro_keras.cli.shared.comparison import run_each
from pixpro_keras.cli.shared.result_files import write_results
from pixpro_keras.data.labels import select, stratified_subset
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn
from pixpro_keras.training.run_config import RunResult


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnnOptions(LabeledOptions, CompareOptions, DeviceOptions):
    """Options of k-NN."""

    k: int = option(20, "Number of neighbors.", above=0)
    temperature: float = option(
        0.07,
        "Temperature of the votes: a neighbor with cosine similarity c votes exp(c / temperature).",
        above=0,
    )
    batch_size: int = option(64, "Images per forward pass of the backbone.", above=0)
    workdir: str = with_default(DeviceOptions, "workdir", "runs/knn")
    bn_momentum: float = without_effect(
        CompareOptions, "bn_momentum", "k-NN changes no statistics of batch norm"
    )


def run(options: KnnOptions) -> None:
    """Classifies the test images, by the features of one backbone or of each of `--compare`."""
    run_each(options, run_one, "knn")


def run_one(options: KnnOptions) -> RunResult:
    """Classifies the test images by the features of one backbone."""
    refuse_unused(options)
    options = resolve_precision(options)
    keras.mixed_precision.set_global_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    with command.prepare_workdir(options, options.workdir) as workdir:
        classify(options, workdir)
    return RunResult(steps=0)


def classify(options: KnnOptions, workdir: pathlib.Path) -> None:
    """Classifies the test images by their neighbors and writes the results."""
    strategy = make_devices(options)
    check_one_machine(strategy, options.strategy, "k-NN")
    with strategy.scope():  # Before the images, since reading all labels may take long.
        backbone, options = read_backbone(options)
    options = resolve_parts(options)
    parts = open_parts(options)
    chosen = stratified_subset(parts.train_labels, options.label_fraction, options.seed)
    if options.k > len(chosen):
        raise FlagError(f"--k={options.k}: there are only {len(chosen)} training images")
    train, test = (
        frozen_features(options, backbone, source, strategy, options.batch_size)
        for source in (select(parts.train, chosen), parts.test)
    )
    if options.k > len(train.labels):
        raise FlagError(
            f"--k={options.k}: only {len(train.labels)} of {len(chosen)} training images can be decoded"
        )
    scores = weighted_knn(
        train.pooled,
        train.labels,
        test.pooled,
        num_classes=parts.num_classes,
        k=options.k,
        temperature=options.temperature,
    )
    write_results(
        workdir,
        "knn",
        {
            "backbone": backbone.label,
            "training images": len(train.labels),
            "test images": len(test.labels),
            "top-1": top_k_accuracy(scores, test.labels, 1),
            "top-5": top_k_accuracy(scores, test.labels, min(5, parts.num_classes)),
        },
        {"flags.cfg": "repeats the run"},
    )
    write_flags(options, workdir)


def main() -> None:
    """Runs the command."""
    command.run(KnnOptions, run, __doc__ or "")
