"""Linear classification of frozen features, trained by SGD.

python experiments/linear_probe.py --weights=runs/mine --dataset=folder:PATH --image_size=128 \
    --learning_rate_factors=0.01,0.1,1

Each image goes through the backbone once, or, with `--augment`, anew in every epoch as a random crop.
Several learning rates train side by side; the best is chosen on training images held out for it. Writes
`linear_probe.md`, `linear_probe.json` and `confusion.png` to `--workdir`. The same command continues a run
that was cut off.
"""

import keras
import numpy as np
from absl import flags

from pixpro_keras.cli.shared import (
    cluster_flags,
    common_flags,
    eval_flags,
    labelled,
    labelled_flags,
    training_flags,
    training_job,
)
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.data import pipeline
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.labels import select, stratified_subset
from pixpro_keras.evaluation.confusion_matrix import ConfusionMatrix
from pixpro_keras.evaluation.knn import top_k_accuracy
from pixpro_keras.evaluation.linear_probe import LinearProbe, feature_batches
from pixpro_keras.visualize.confusion import draw_confusion_matrix
from pixpro_keras.visualize.figures import save_figure

flags.DEFINE_list(
    "learning_rate_factors",
    ["1"],
    "Classifiers trained side by side, each with the learning rate times its factor.",
)
flags.DEFINE_boolean(
    "augment",
    False,
    "Random crops and flips in every epoch, instead of each image's features once.",
)
flags.DEFINE_float(
    "holdout_fraction",
    0.1,
    "Share of the training images on which the best of several classifiers is chosen.",
    0.0,
    0.5,
)
_DEFAULTS = {
    "workdir": "runs/linear_probe",
    "optimizer": "sgd",
    "base_learning_rate": 30.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0.0,
    "end_learning_rate": 0.0,
    "batch_size": 256,
}
for _name, _value in _DEFAULTS.items():
    FLAGS.set_default(_name, _value)


def _main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    workdir = common_flags.prepare_workdir()
    strategy, replica_batch = training_job.start_devices()
    with blame("learning_rate_factors"):
        factors = [float(factor) for factor in FLAGS.learning_rate_factors]
    if len(factors) > 1 and (FLAGS.weight_decay or FLAGS.optimizer != "sgd"):
        raise FlagError(
            f"--learning_rate_factors={','.join(FLAGS.learning_rate_factors)}: several need "
            "--optimizer=sgd and --weight_decay=0, where a weighted loss is another learning rate"
        )
    with cluster_flags.chief_first(strategy):
        everything, labels, test, test_labels = labelled_flags.open_parts()
    num_classes = labelled.count_classes(everything, test, labels, test_labels)
    chosen = labelled_flags.choose(labels)
    held_out = hold_out(chosen, labels) if len(factors) > 1 else np.empty(0, np.int64)
    kept = np.setdiff1d(chosen, held_out)
    choice = select(everything, held_out)
    train = select(everything, eval_flags.fill_batch(kept))
    steps_per_epoch = training_job.resolve_steps_per_epoch(train.num_examples, "train_dataset")

    with strategy.scope():
        backbone, preprocess, name = eval_flags.load_backbone()
        with blame("learning_rate_factors"):
            probe = LinearProbe(
                backbone, num_classes, factors, accumulate_steps=FLAGS.accumulate_steps
            )
        probe.compile(training_flags.build_optimizer(steps_per_epoch), jit_compile=False)
        probe.optimizer.build(probe.trainable_variables)
    identity = {"backbone": name, "num_classes": num_classes, "factors": factors}
    checkpoints, first_step = training_job.open_checkpoints(workdir, strategy, probe, identity)

    config = pipeline.DataConfig(
        image_size=FLAGS.image_size, recipe="supervised", num_views=1, seed=FLAGS.seed
    )
    broken = BrokenImages(train, config.max_broken_share)
    known = None
    if not FLAGS.augment:
        known = labelled.frozen_features(backbone, train, preprocess, strategy=strategy)

    def batches(context):
        if known is None:
            return pipeline.make_dataset(
                train,
                config,
                global_batch_size=FLAGS.batch_size,
                replica_batch_size=replica_batch,
                preprocess=preprocess,
                start_step=first_step,
                input_pipeline_id=context.input_pipeline_id,
                num_input_pipelines=context.num_input_pipelines,
                broken=broken,
            )
        data = feature_batches(known.pooled, known.labels, FLAGS.batch_size, FLAGS.seed, first_step)
        machines = context.num_input_pipelines
        if replica_batch == FLAGS.batch_size:
            return data
        # Each machine takes its part of the global batch, and each of its replicas a part of that.
        shares = data.unbatch().batch(FLAGS.batch_size // machines)
        mine = shares.shard(machines, context.input_pipeline_id)
        return mine.unbatch().batch(replica_batch, drop_remainder=True)

    exit_code = training_job.run_training(workdir, strategy, probe, checkpoints, batches, broken)
    if exit_code is None:
        with cluster_flags.chief_alone(strategy) as is_chief:
            if is_chief:
                looked_at = [
                    labelled.frozen_features(backbone, one, preprocess, strategy=strategy)
                    for one in ((choice, test) if len(factors) > 1 else (test,))
                ]
                finish(workdir, name, probe, len(kept), looked_at, everything.class_names)
    return exit_code or 0


def hold_out(chosen: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Positions of the training images on which the best classifier is chosen; each class keeps one.

    Raises:
        FlagError: if no class has two images.
    """
    places = stratified_subset(labels[chosen], FLAGS.holdout_fraction, FLAGS.seed, num_left=1)
    if not len(places):
        raise FlagError(
            f"--learning_rate_factors={','.join(FLAGS.learning_rate_factors)}: no training image can "
            "be held out to choose by, each class has only one"
        )
    return chosen[places]


def probabilities(probe, asked) -> np.ndarray:
    """`(number of classifiers, N, num_classes)`."""
    return keras.ops.convert_to_numpy(keras.ops.softmax(probe.logits(asked.pooled), axis=-1))


def finish(workdir, name, probe, num_train, looked_at, class_names) -> None:
    """Writes the results of all classifiers, and of the best one its confusion matrix.

    Args:
        workdir: where to.
        name: what the backbone is called.
        probe: trained.
        num_train: training images.
        looked_at: features of the held-out images, where there are several classifiers, and of the
            test images.
        class_names: names of the classes, where they are known.
    """
    *choice, asked = looked_at
    all_scores = probabilities(probe, asked)
    found = (
        [top_k_accuracy(one, choice[0].labels) for one in probabilities(probe, *choice)]
        if choice
        else []
    )
    classifiers = [
        {
            "learning rate": f"{training_flags.peak_learning_rate() * factor:g}",
            "held-out top-1": found[head] if found else None,
            "top-1": top_k_accuracy(all_scores[head], asked.labels, 1),
            "top-5": top_k_accuracy(all_scores[head], asked.labels, 5),
        }
        for head, factor in enumerate(probe.learning_rate_factors)
    ]
    best = int(np.argmax(found)) if found else 0
    scores = all_scores[best]
    confusion = ConfusionMatrix(scores.shape[1], ignored=None)
    confusion.add(asked.labels, scores.argmax(axis=1))
    save_figure(draw_confusion_matrix(confusion.matrix, class_names), workdir / "confusion.png")
    results = {
        "backbone": name,
        "training images": num_train,
        "test images": len(asked.labels),
    }
    results |= {key: classifiers[best][key] for key in ("learning rate", "top-1", "top-5")}
    eval_flags.write_results(
        workdir, "linear_probe", results, all_classifiers=classifiers if choice else []
    )


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
