"""Weighted k-NN on the pooled features of a frozen backbone.

python experiments/knn.py --weights=runs/mine --dataset=folder:PATH --image_size=128

Writes `knn.md` and `knn.json` to `--workdir`.
"""

import keras
from absl import flags

from pixpro_keras.cli.shared import (
    cluster_flags,
    common_flags,
    eval_flags,
    labelled,
    labelled_flags,
)
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame, must_be_positive
from pixpro_keras.data.labels import select
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn
from pixpro_keras.training.strategy import make_strategy

flags.DEFINE_integer("k", 20, "Neighbours that vote.")
flags.DEFINE_float("temperature", 0.07, "A neighbour at cosine c votes exp(c / temperature).")
flags.DEFINE_integer("batch_size", 64, "Images that go through the backbone together.")
flags.FLAGS.set_default("workdir", "runs/knn")
must_be_positive("k", "temperature", "batch_size")


def _main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    keras.mixed_precision.set_global_policy(FLAGS.precision)
    keras.utils.set_random_seed(FLAGS.seed)
    workdir = common_flags.prepare_workdir()
    with blame("strategy"):
        strategy = make_strategy(FLAGS.strategy, cluster_flags.join_workers)
    eval_flags.check_one_machine(strategy, "k-NN")
    train, labels, test, test_labels = labelled_flags.open_parts()
    num_classes = labelled.count_classes(train, test, labels, test_labels)
    chosen = labelled_flags.choose(labels)
    train, labels = select(train, chosen), labels[chosen]
    if FLAGS.k > len(labels):
        raise FlagError(f"--k={FLAGS.k}: there are only {len(labels)} training images")
    with strategy.scope():
        backbone, preprocess, name = eval_flags.load_backbone()
    known, asked = (
        labelled.frozen_features(backbone, source, preprocess, FLAGS.batch_size, strategy)
        for source in (train, test)
    )
    scores = weighted_knn(
        known.pooled,
        known.labels,
        asked.pooled,
        num_classes=num_classes,
        k=FLAGS.k,
        temperature=FLAGS.temperature,
    )
    eval_flags.write_results(
        workdir,
        "knn",
        {
            "backbone": name,
            "training images": len(labels),
            "test images": len(test_labels),
            "top-1": top_k_accuracy(scores, asked.labels, 1),
            "top-5": top_k_accuracy(scores, asked.labels, min(5, num_classes)),
        },
    )
    common_flags.write_flags(workdir)
    return 0


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
