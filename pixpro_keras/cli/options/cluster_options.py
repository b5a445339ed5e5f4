"""Options of runs on several machines, and the strategy that they describe."""

import dataclasses

import tensorflow as tf

from pixpro_keras import training
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.option_fields import FlagError, Options, option, option_fields
from pixpro_keras.cli.options.run_options import RunOptions
from pixpro_keras.training.cluster import CLUSTERS, make_resolver
from pixpro_keras.training.workers import is_multi_worker, make_multi_worker


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterOptions(Options):
    """Options of runs on several machines."""

    cluster: str = option(
        "tf_config",
        "Source of the machines of --strategy=multi_worker: TF_CONFIG, the job step of Slurm, or the pods"
        " of Kubernetes (see --kubernetes_selector). docs/distributed.md has examples.",
        choices=CLUSTERS,
    )
    kubernetes_selector: str = option(
        "", "Label selector of the pods of --cluster=kubernetes, such as job-name=pixpro."
    )
    num_workers: int | None = option(None, "Number of pods of --cluster=kubernetes.", above=0)
    worker_timeout_seconds: float = option(
        60.0,
        "Seconds without a heartbeat after which a worker counts as lost and the others stop. A worker "
        "whose process ends is noticed at once.",
        above=0,
    )
    start_timeout_seconds: float = option(
        600.0, "Seconds to wait for all workers to start.", above=0
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceOptions(RunOptions, ClusterOptions):
    """Options of the run and of several machines."""


def make_devices(options: DeviceOptions, deterministic: bool = False) -> tf.distribute.Strategy:
    """Returns the strategy that the options name, connected to the other workers.

    Args:
        options: options of the command.
        deterministic: whether a run repeats to the last bit.

    Raises:
        FlagError: if there are no such devices or workers, or a given flag of `ClusterOptions` has no effect.
    """

    def join_workers() -> tf.distribute.Strategy:
        with flag_errors(options, "cluster"):
            resolver = make_resolver(
                options.cluster,
                selector=options.kubernetes_selector,
                num_workers=options.num_workers,
                timeout_seconds=options.start_timeout_seconds,
            )
        with flag_errors(options, "cluster", "start_timeout_seconds"):
            return make_multi_worker(
                resolver, options.worker_timeout_seconds, options.start_timeout_seconds
            )

    of_kubernetes = ("kubernetes_selector", "num_workers")
    if options.cluster != "kubernetes":
        refuse_unused(options, dict.fromkeys(of_kubernetes, "only --cluster=kubernetes has pods"))
    try:
        with flag_errors(options, "strategy"):
            strategy = training.make_devices(
                options.strategy, deterministic=deterministic, make_multi_worker=join_workers
            )
    except RuntimeError as error:
        if not deterministic:
            raise
        raise FlagError(
            f"--deterministic: TensorFlow has used a device already; restart Python ({error})"
        ) from error
    if not is_multi_worker(strategy):
        reason = f"needs --strategy=multi_worker; --strategy={options.strategy} trains on this machine alone"
        names = (field.name for field in option_fields(ClusterOptions))
        refuse_unused(options, dict.fromkeys(names, reason))
    return strategy
