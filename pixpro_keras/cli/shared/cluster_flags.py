"""Flags of runs on several machines."""

import tensorflow as tf
from absl import flags

from pixpro_keras.cli.shared.common_flags import FLAGS, blame, must_be_positive
from pixpro_keras.training.cluster import CLUSTERS, make_resolver
from pixpro_keras.training.workers import make_multi_worker

flags.DEFINE_enum(
    "cluster",
    "tf_config",
    CLUSTERS,
    "Who tells --strategy=multi_worker the machines: TF_CONFIG; Slurm's job step; Kubernetes's pods, "
    "see --kubernetes_selector. docs/distributed.md has examples.",
)
flags.DEFINE_string(
    "kubernetes_selector", "", "Labels of the pods of --cluster=kubernetes: job-name=pixpro."
)
flags.DEFINE_integer("num_workers", None, "Number of pods of --cluster=kubernetes.")
flags.DEFINE_float(
    "worker_timeout_seconds",
    60.0,
    "Seconds without a sign of life after which a worker counts as lost and the others end. One whose "
    "process dies is noticed at once.",
)
flags.DEFINE_float(
    "start_timeout_seconds", 600.0, "Seconds that workers wait for all others to come up."
)
must_be_positive("num_workers", "worker_timeout_seconds", "start_timeout_seconds")


def join_workers() -> tf.distribute.Strategy:
    """The strategy of the workers that the flags name."""
    with blame("cluster"):
        resolver = make_resolver(
            FLAGS.cluster,
            selector=FLAGS.kubernetes_selector,
            num_workers=FLAGS.num_workers,
            timeout_seconds=FLAGS.start_timeout_seconds,
        )
    with blame("cluster", "start_timeout_seconds"):
        return make_multi_worker(
            resolver, FLAGS.worker_timeout_seconds, FLAGS.start_timeout_seconds
        )
