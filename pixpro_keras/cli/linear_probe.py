r"""Linear classification of frozen features, trained by SGD.

pixpro-linear-probe --weights=runs/mine --dataset=folder:PATH --image_size=128 \
    --learning_rate_factors=0.01,0.1,1

Each image goes through the backbone once; with `--augment` in every epoch, as a new random crop.
Several learning rates train side by side; the best is chosen on training images held out for it. Writes
`linear_probe.md`, `linear_probe.json` and `confusion.png` to `--workdir`. The same command continues an
interrupted run.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.compare_options import CompareOptions
from pixpro_keras.cli.options.evaluation_options import (
    EvaluatedBackbone,
    fill_batch,
    read_backbone,
    trained_weights,
)
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.labeled_options import (
    LabeledOptions,
    LabeledParts,
    frozen_features,
    open_parts,
    resolve_parts,
)
from pixpro_keras.cli.options.option_fields import (
    FlagError,
    are_positive,
    option,
    with_default,
)
from pixpro_keras.cli.options.training_options import (
    TrainingJobOptions,
    compile_task,
    resolve_lengths,
)
from pixpro_keras.cli.shared import training_job
from pixpro_keras.cli.shared.comparison import run_each
from pixpro_keras.cli.shared.opened_run import open_run, run_training, write_at_end
from pixpro_keras.cli.shared.result_files import TRAINING_FILES, write_results
from pixpro_keras.data import pipeline
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.labels import select, stratified_subset
from pixpro_keras.data.sources import Source
from pixpro_keras.evaluation.confusion_matrix import ConfusionMatrix
from pixpro_keras.evaluation.features import Features
from pixpro_keras.evaluation.knn import top_k_accuracy
from pixpro_keras.evaluation.linear_probe import LinearProbe, feature_batches
from pixpro_keras.training.run_config import RunResult
from pixpro_keras.training.workers import chief_first
from pixpro_keras.visualize.confusion import draw_confusion_matrix
from pixpro_keras.visualize.figures import save_figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearProbeOptions(LabeledOptions, CompareOptions, TrainingJobOptions):
    """Options of the linear probe."""

    learning_rate_factors: tuple[str, ...] = option(
        ("1",),
        "Factors of the learning rate; one classifier is trained with each of them.",
        check=lambda factors: bool(factors) and are_positive(factors),
        must="be positive, finite numbers, such as 0.01,0.1,1",
    )
    augment: bool = option(
        False,
        "Train on random crops and flips, new in every epoch, instead of features computed once per "
        "image.",
    )
    batch_statistics: bool = option(
        False,
        "Run the backbone in training mode while the classifiers are trained, as the release does: batch "
        "norm uses the statistics of each batch, and the test uses moving statistics of the crops. Needs "
        "--augment. Default: inference mode, as in MoCo.",
    )
    holdout_fraction: float = option(
        0.1,
        "Fraction of the training images held out to choose the best of several classifiers.",
        minimum=0.0,
        maximum=0.5,
    )
    workdir: str = with_default(TrainingJobOptions, "workdir", "runs/linear_probe")
    optimizer: str = with_default(TrainingJobOptions, "optimizer", "sgd")
    base_learning_rate: float = with_default(TrainingJobOptions, "base_learning_rate", 30.0)
    weight_decay: float = with_default(TrainingJobOptions, "weight_decay", 0.0)
    warmup_epochs: float = with_default(TrainingJobOptions, "warmup_epochs", 0.0)
    end_learning_rate: float = with_default(TrainingJobOptions, "end_learning_rate", 0.0)
    batch_size: int = with_default(TrainingJobOptions, "batch_size", 256)


def run(options: LinearProbeOptions) -> RunResult:
    """Trains and tests the classifiers, on one backbone or on each of `--compare`."""
    return run_each(options, training_job.started(train_and_test), "linear_probe")


def check_training(options: LinearProbeOptions) -> list[float]:
    """Checks the flags that need neither network nor data; returns the learning-rate factors.

    Raises:
        FlagError: naming the flags that cannot be used, or do not go together.
    """
    factors = [float(factor) for factor in options.learning_rate_factors]
    if len(factors) > 1 and (options.weight_decay or options.optimizer != "sgd"):
        raise FlagError(
            f"--learning_rate_factors={','.join(options.learning_rate_factors)}: several need "
            "--optimizer=sgd and --weight_decay=0, which make a weighted loss equal to another learning rate"
        )
    if len(factors) > 1 and not options.holdout_fraction:
        raise FlagError(
            "--holdout_fraction=0: images must be held out to choose one of several "
            f"--learning_rate_factors={','.join(options.learning_rate_factors)}"
        )
    if options.batch_statistics and not options.augment:
        raise FlagError("--batch_statistics: needs --augment, for statistics of new crops")
    if not options.batch_statistics:
        reason = "without --batch_statistics batch norm does not change"
        refuse_unused(options, {"bn_momentum": reason})
    return factors


def train_and_test(options: LinearProbeOptions, job: training_job.StartedJob) -> RunResult:
    """Trains and tests the classifiers in the directory of a job that has been started."""
    factors = check_training(options)
    with job.strategy.scope():  # Before the images, since reading all labels may take long.
        backbone, options = read_backbone(options)
    with chief_first(job.strategy):
        options = resolve_parts(options)
        parts = open_parts(options)
    kept = stratified_subset(parts.train_labels, options.label_fraction, options.seed)
    choice = None
    if len(factors) > 1:
        held_out = hold_out(options, kept, parts.train_labels)
        kept, choice = np.setdiff1d(kept, held_out), select(parts.train, held_out)
    train = select(parts.train, fill_batch(kept, options.label_fraction, options.batch_size))
    options = resolve_lengths(options, train.num_examples, "train_dataset")

    with job.strategy.scope():
        probe = build_probe(options, backbone, parts.num_classes, factors)
    opened = open_run(
        job,
        options,
        probe,
        {
            **trained_weights(options, backbone),
            "num_classes": parts.num_classes,
            "factors": factors,
        },
        train,
        header={"task": "linear classification", "backbone": backbone.label},
        data=options.train_dataset or "",
        num_images=len(kept),
    )
    if not (options.augment or options.is_given("steps_per_execution")):
        # A step on features takes less time than returning to Python.
        config = dataclasses.replace(
            opened.config, steps_per_execution=opened.config.log_every_steps
        )
        opened = dataclasses.replace(opened, config=config)
    broken = BrokenImages(train, options.max_broken_share)
    make_batches = crops_or_features(options, job, backbone, train, broken)
    result = run_training(opened, make_batches, broken=broken)
    write_at_end(
        job, result, lambda: finish(options, job, backbone, probe, parts, choice, len(kept))
    )
    return result


def build_probe(
    options: LinearProbeOptions,
    backbone: EvaluatedBackbone,
    num_classes: int,
    factors: Sequence[float],
) -> LinearProbe:
    """Returns the classifiers, compiled. In the strategy's scope."""
    with flag_errors(options, "learning_rate_factors"):
        probe = LinearProbe(
            backbone.network,
            num_classes,
            factors,
            options.batch_statistics,
            accumulate_steps=options.accumulate_steps,
        )
    compile_task(options, probe)
    return probe


def hold_out(options: LinearProbeOptions, chosen: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns positions of the training images on which the best classifier is chosen; each class keeps one.

    Raises:
        FlagError: if no class has two images.
    """
    places = stratified_subset(labels[chosen], options.holdout_fraction, options.seed, num_left=1)
    if not len(places):
        raise FlagError(
            f"--learning_rate_factors={','.join(options.learning_rate_factors)}: no training image can "
            "be held out to choose the best one: each class has only one image"
        )
    return chosen[places]


def crops_or_features(
    options: LinearProbeOptions,
    job: training_job.StartedJob,
    backbone: EvaluatedBackbone,
    train: Source,
    broken: BrokenImages,
) -> Callable[..., tf.data.Dataset]:
    """Returns the function that makes the batches: of crops with `--augment`, else of features.

    Raises:
        FlagError: if fewer images than a batch can be decoded.
    """
    if options.augment:
        config = pipeline.DataConfig(
            image_size=options.image_size,
            recipe="supervised",
            num_views=1,
            seed=options.seed,
            max_broken_share=options.max_broken_share,
        )
        return functools.partial(
            pipeline.make_dataset,
            train,
            config,
            global_batch_size=options.batch_size,
            replica_batch_size=job.replica_batch_size,
            preprocess=backbone.preprocess,
            broken=broken,
        )
    features = frozen_features(options, backbone, train, job.strategy)
    if len(features.labels) < options.batch_size:
        raise FlagError(
            f"--batch_size={options.batch_size}: only {len(features.labels)} training images can be decoded"
        )
    return functools.partial(batches_of_features, features, options, job.replica_batch_size)


def batches_of_features(
    features: Features,
    options: LinearProbeOptions,
    replica_batch_size: int,
    *,
    start_step: int,
    input_pipeline_id: int,
    num_input_pipelines: int,
) -> tf.data.Dataset:
    """Returns a machine's batches of features, from a step on.

    Args:
        features: features of the training images.
        options: resolved.
        replica_batch_size: rows that each replica takes per step.
        start_step: step of the first batch.
        input_pipeline_id: number of this machine, from 0.
        num_input_pipelines: number of machines.
    """
    data = feature_batches(
        features.pooled, features.labels, options.batch_size, options.seed, start_step
    )
    if replica_batch_size == options.batch_size:
        return data
    # Each machine takes its part of the global batch, and each of its replicas a part of that.
    shares = data.unbatch().batch(options.batch_size // num_input_pipelines)
    mine = shares.shard(num_input_pipelines, input_pipeline_id)
    return mine.unbatch().batch(replica_batch_size, drop_remainder=True)


def log_probabilities(probe: LinearProbe, features: Features) -> np.ndarray:
    """`(number of classifiers, N, num_classes)`; ordered also where probabilities round to 0."""
    logits = probe.logits(features.pooled)
    return keras.ops.convert_to_numpy(keras.ops.log_softmax(logits, axis=-1))


def finish(
    options: LinearProbeOptions,
    job: training_job.StartedJob,
    backbone: EvaluatedBackbone,
    probe: LinearProbe,
    parts: LabeledParts,
    choice: Source | None,
    num_train: int,
) -> None:
    """Writes the results of all classifiers, and of the best one its confusion matrix.

    Args:
        options: resolved.
        job: devices and directory.
        backbone: backbone of the features.
        probe: trained.
        parts: images of the test, and names of the classes.
        choice: held-out images, if there are several classifiers to choose from.
        num_train: number of training images.
    """
    held_out_scores: list[float] = []
    if choice is not None:
        held_out = frozen_features(options, backbone, choice, job.strategy)
        scores_of_each = log_probabilities(probe, held_out)
        held_out_scores = [top_k_accuracy(scores, held_out.labels) for scores in scores_of_each]
    test = frozen_features(options, backbone, parts.test, job.strategy)
    test_scores = log_probabilities(probe, test)
    classifiers = [
        {
            "learning rate": f"{options.peak_learning_rate * factor:g}",
            "held-out top-1": held_out_scores[head] if held_out_scores else None,
            "top-1": top_k_accuracy(test_scores[head], test.labels, 1),
            "top-5": top_k_accuracy(test_scores[head], test.labels, 5),
        }
        for head, factor in enumerate(probe.learning_rate_factors)
    ]
    best = int(np.argmax(held_out_scores)) if held_out_scores else 0
    scores = test_scores[best]
    confusion = ConfusionMatrix(scores.shape[1], ignored=None)
    confusion.add(test.labels, scores.argmax(axis=1))
    figure = draw_confusion_matrix(confusion.matrix, parts.train.class_names)
    save_figure(figure, job.workdir / "confusion.png")
    results = {
        "backbone": backbone.label,
        "training images": num_train,
        "test images": len(test.labels),
    }
    results |= {key: classifiers[best][key] for key in ("learning rate", "top-1", "top-5")}
    write_results(
        job.workdir,
        "linear_probe",
        results,
        TRAINING_FILES | {"confusion.png": "confusion matrix of the classes"},
        all_classifiers=classifiers if held_out_scores else [],
    )


def main() -> None:
    """Runs the command."""
    training_job.main(LinearProbeOptions, run, __doc__ or "")
