"""Distribution strategy of a run: its devices."""

import os
from collections.abc import Callable

import tensorflow as tf

from pixpro_keras.training import cluster, workers
from pixpro_keras.utils.errors import first_line

STRATEGIES = ("auto", "one_device", "mirrored", "multi_worker", "tpu")


def make_strategy(
    name: str = "auto", make_multi_worker: Callable[[], tf.distribute.Strategy] | None = None
) -> tf.distribute.Strategy:
    """Makes the distribution strategy of a run.

    Args:
        name: `one_device`; `mirrored` (all GPUs of this machine, or its logical CPUs where it has
            none); `multi_worker` (the machines that `TF_CONFIG` names); `tpu` (the TPU that
            `TPU_NAME` names, or the local one); `auto`: the first of tpu, multi_worker and mirrored
            that the environment or the devices indicate, else one_device.
        make_multi_worker: function that connects the machines of `multi_worker`; default: those that
            `TF_CONFIG` names.

    Returns:
        A strategy. Models and optimizers are created in its scope.

    Raises:
        ValueError: if the name is unknown or there are no such devices.

    Example:
        ```python
        from pixpro_keras.training import make_strategy

        assert make_strategy("one_device").num_replicas_in_sync == 1
        ```
    """
    if name not in STRATEGIES:
        raise ValueError(f"`strategy` must be one of {', '.join(STRATEGIES)}. Received: {name!r}.")
    if name == "auto":
        name = _choose()
    if name == "one_device":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return _mirrored()
    if name == "multi_worker":
        if make_multi_worker is not None:
            return make_multi_worker()
        return workers.make_multi_worker(cluster.make_resolver())
    return _tpu()


def _choose() -> str:
    if os.environ.get("TPU_NAME"):
        return "tpu"
    if "TF_CONFIG" in os.environ:
        return "multi_worker"
    return "mirrored" if len(tf.config.list_logical_devices("GPU")) > 1 else "one_device"


def _mirrored() -> tf.distribute.Strategy:
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        return tf.distribute.MirroredStrategy([device.name for device in gpus])
    # On CPUs the default, collective ops, needs each replica to issue them in the same order.
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices("CPU")],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=os.environ.get("TPU_NAME", "local")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ValueError(f"`strategy=tpu` found no TPU: {first_line(error)}") from error


def replica_batch_size(
    strategy: tf.distribute.Strategy, batch_size: int, accumulate_steps: int = 1
) -> int:
    """Returns the images that each replica takes per step.

    Args:
        strategy: distribution strategy of the run.
        batch_size: images in a step, all replicas together.
        accumulate_steps: parts into which each replica's batch is cut.

    Raises:
        ValueError: if the replicas times the accumulated parts do not divide the batch.

    Example:
        ```python
        from pixpro_keras.training import make_strategy, replica_batch_size

        assert replica_batch_size(make_strategy("one_device"), 64, accumulate_steps=2) == 64
        ```
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size < 1 or batch_size % (replicas * accumulate_steps):
        raise ValueError(
            f"`batch_size` must be a positive multiple of {replicas} replicas x "
            f"{accumulate_steps} accumulated parts. Received: batch_size={batch_size}."
        )
    return batch_size // replicas
