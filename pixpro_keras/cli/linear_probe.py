r"""Linear classification of frozen features, trained by SGD.

pixpro-linear-probe --weights=runs/mine --dataset=folder:PATH --image_size=128 \
    --learning_rate_factors=0.01,0.1,1

Each image goes through the backbone once; with `--augment` in every epoch, as a new random crop.
Several learning rates train side by side; the best is chosen on training images held out for it. Writes
`linear_probe.md`, `linear_probe.json` and `confusion.png` to `--workdir`. The same command continues an
interrupted run.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.compare_options import CompareOptions
from pixpro_keras.cli.options.evaluation_options import fill_batch, read_backbone, trained_weights
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.labeled_options import (
    LabeledOptions,
    frozen_features,
    open_parts,
    resolve_parts,
)
from pixpro_keras.cli.options.option_fields import FlagError, option, with_default
from pixpro_keras.cli.options.training_options import (
    TrainingJobOptions,
    build_optimizer,
    resolve_lengths,
)
from pixpro_keras.cli.shared import training_job
from pixpro_keras.cli.shared.comparison import run_each
from pixpro_keras.cli.shared.header import print_header
from pixpro_keras.cli.shared.result_files import TRAINING_FILES, write_results
from pixpro_keras.data import pipeline
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.labels import select, stratified_subset
from pixpro_keras.evaluation.confusion_matrix import ConfusionMatrix
from pixpro_keras.evaluation.features import Features
from pixpro_keras.evaluation.knn import top_k_accuracy
from pixpro_keras.evaluation.linear_probe import LinearProbe, feature_batches
from pixpro_keras.training.run_config import RunResult
from pixpro_keras.training.workers import chief_alone, chief_first
from pixpro_keras.visualize.confusion import draw_confusion_matrix
from pixpro_keras.visualize.figures import save_figure


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearProbeOptions(LabeledOptions, CompareOptions, TrainingJobOptions):
    """Options of the linear probe."""

    learning_rate_factors: tuple[str, ...] = option(
        ("1",), "Factors of the learning rate; one classifier is trained with each of them."
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
    with flag_errors(options, "learning_rate_factors"):
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
    workdir, strategy, replica_batch_size = job.workdir, job.strategy, job.replica_batch_size
    factors = check_training(options)
    with strategy.scope():  # Before the images, since reading all labels may take long.
        backbone, options = read_backbone(options)
    with chief_first(strategy):
        options = resolve_parts(options)
        parts = open_parts(options)
    labels = parts.train_labels
    chosen = stratified_subset(labels, options.label_fraction, options.seed)
    has_choice = len(factors) > 1
    held_out = hold_out(options, chosen, labels) if has_choice else np.empty(0, np.int64)
    kept = np.setdiff1d(chosen, held_out)
    choice = select(parts.train, held_out)
    train = select(parts.train, fill_batch(kept, options.label_fraction, options.batch_size))
    options = resolve_lengths(options, train.num_examples, "train_dataset")

    with strategy.scope():
        with flag_errors(options, "learning_rate_factors"):
            probe = LinearProbe(
                backbone.network,
                parts.num_classes,
                factors,
                options.batch_statistics,
                accumulate_steps=options.accumulate_steps,
            )
        probe.compile(build_optimizer(options), jit_compile=False)
        probe.optimizer.build(probe.trainable_variables)
    identity = {
        **trained_weights(options, backbone),
        "num_classes": parts.num_classes,
        "factors": factors,
    }
    config = training_job.run_config(options, workdir)
    if not (options.augment or options.is_given("steps_per_execution")):
        # A step on features takes less time than returning to Python.
        config = dataclasses.replace(config, steps_per_execution=config.log_every_steps)
    checkpoints, first_step = training_job.open_checkpoints(
        options, config, strategy, probe, identity, train
    )

    print_header(
        options,
        strategy,
        len(kept),
        task={"task": "linear classification", "backbone": backbone.label},
        data=options.train_dataset or "",
        first_step=first_step,
    )
    view_config = pipeline.DataConfig(
        image_size=options.image_size,
        recipe="supervised",
        num_views=1,
        seed=options.seed,
        max_broken_share=options.max_broken_share,
    )
    broken = BrokenImages(train, view_config.max_broken_share)

    train_features = None
    if not options.augment:
        train_features = frozen_features(options, backbone, train, strategy)
    if train_features is not None and len(train_features.labels) < options.batch_size:
        raise FlagError(
            f"--batch_size={options.batch_size}: only {len(train_features.labels)} training images can be "
            "decoded"
        )

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        if train_features is None:
            return pipeline.make_dataset(
                train,
                view_config,
                global_batch_size=options.batch_size,
                replica_batch_size=replica_batch_size,
                preprocess=backbone.preprocess,
                start_step=first_step,
                input_pipeline_id=context.input_pipeline_id,
                num_input_pipelines=context.num_input_pipelines,
                broken=broken,
            )
        return batches_of_features(train_features, options, first_step, replica_batch_size, context)

    result = training_job.run_training(
        job, options, probe, batches, config, checkpoints, broken=broken
    )
    if result.is_complete:
        with chief_alone(strategy) as is_chief:
            if is_chief:
                held_out_features = None
                if has_choice:
                    held_out_features = frozen_features(options, backbone, choice, strategy)
                finish(
                    options,
                    workdir,
                    backbone.label,
                    probe,
                    len(kept),
                    held_out_features,
                    frozen_features(options, backbone, parts.test, strategy),
                    parts.train.class_names,
                )
    return result


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


def batches_of_features(
    features: Features,
    options: LinearProbeOptions,
    first_step: int,
    replica_batch_size: int,
    context: tf.distribute.InputContext,
) -> tf.data.Dataset:
    """Returns this machine's batches of features, from a step on.

    Args:
        features: features of the training images.
        options: resolved.
        first_step: step of the first batch.
        replica_batch_size: rows that each replica takes per step.
        context: place of this machine among all.
    """
    data = feature_batches(
        features.pooled, features.labels, options.batch_size, options.seed, first_step
    )
    if replica_batch_size == options.batch_size:
        return data
    # Each machine takes its part of the global batch, and each of its replicas a part of that.
    machines = context.num_input_pipelines
    shares = data.unbatch().batch(options.batch_size // machines)
    mine = shares.shard(machines, context.input_pipeline_id)
    return mine.unbatch().batch(replica_batch_size, drop_remainder=True)


def log_probabilities(probe: LinearProbe, features: Features) -> np.ndarray:
    """`(number of classifiers, N, num_classes)`; ordered also where probabilities round to 0."""
    logits = probe.logits(features.pooled)
    return keras.ops.convert_to_numpy(keras.ops.log_softmax(logits, axis=-1))


def finish(
    options: LinearProbeOptions,
    workdir: pathlib.Path,
    name: str,
    probe: LinearProbe,
    num_train: int,
    held_out: Features | None,
    test: Features,
    class_names: Sequence[str] | None,
) -> None:
    """Writes the results of all classifiers, and of the best one its confusion matrix.

    Args:
        options: resolved.
        workdir: folder of the files.
        name: name of the backbone in a table.
        probe: trained.
        num_train: number of training images.
        held_out: features of the held-out images, if there are several classifiers.
        test: features of the test images.
        class_names: names of the classes, where they are known.
    """
    test_scores = log_probabilities(probe, test)
    choice: list[float] = []
    if held_out is not None:
        scores_of_each = log_probabilities(probe, held_out)
        choice = [top_k_accuracy(scores, held_out.labels) for scores in scores_of_each]
    classifiers = [
        {
            "learning rate": f"{options.peak_learning_rate * factor:g}",
            "held-out top-1": choice[head] if choice else None,
            "top-1": top_k_accuracy(test_scores[head], test.labels, 1),
            "top-5": top_k_accuracy(test_scores[head], test.labels, 5),
        }
        for head, factor in enumerate(probe.learning_rate_factors)
    ]
    best = int(np.argmax(choice)) if choice else 0
    scores = test_scores[best]
    confusion = ConfusionMatrix(scores.shape[1], ignored=None)
    confusion.add(test.labels, scores.argmax(axis=1))
    save_figure(draw_confusion_matrix(confusion.matrix, class_names), workdir / "confusion.png")
    results = {
        "backbone": name,
        "training images": num_train,
        "test images": len(test.labels),
    }
    results |= {key: classifiers[best][key] for key in ("learning rate", "top-1", "top-5")}
    write_results(
        workdir,
        "linear_probe",
        results,
        TRAINING_FILES | {"confusion.png": "confusion matrix of the classes"},
        all_classifiers=classifiers if choice else [],
    )


def main() -> None:
    """Runs the command."""
    training_job.main(LinearProbeOptions, run, __doc__ or "")
