"""Flags of runs on several machines, and how their workers wait for each other."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from absl import flags

from pixpro_keras.cli.shared.common_flags import FLAGS, blame, must_be_positive
from pixpro_keras.training.cluster import CLUSTERS, make_resolver
from pixpro_keras.training.strategy import is_chief
from pixpro_keras.training.workers import (
    WorkerLostError,
    gather,
    is_multi_worker,
    make_multi_worker,
)

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


@contextlib.contextmanager
def blame_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turns the failed exchange with a worker that is gone into one line."""
    try:
        yield
    except (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
    ) as error:
        if not is_multi_worker(strategy):
            raise
        raise WorkerLostError(
            "another worker of the run is gone; the log of the first that ended says why. The same "
            "command, started on all, continues from the newest checkpoint."
        ) from error


@contextlib.contextmanager
def chief_first(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """What the chief does before the others: preparing files that all read."""
    with blame_workers(strategy):
        if not is_chief(strategy):
            gather(strategy, 0)
        yield
        if is_chief(strategy):
            gather(strategy, 0)


@contextlib.contextmanager
def chief_alone(strategy: tf.distribute.Strategy) -> Iterator[bool]:
    """What the chief does while the others wait, whose end it would take for a failure.

    Yields:
        Whether this is the chief.
    """
    with blame_workers(strategy):
        yield is_chief(strategy)
        gather(strategy, 0)
