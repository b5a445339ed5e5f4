"""Communication between the processes of a multi-worker run."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute import multi_worker_util
from tensorflow.python.eager import context

from pixpro_keras.task import Task
from pixpro_keras.utils.errors import UserError, first_line


class WorkerLostError(UserError, RuntimeError):
    """Another worker of the run is gone."""


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """True where several processes train together.

    Args:
        strategy: distribution strategy of the run.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.training.workers import is_multi_worker

        assert not is_multi_worker(tf.distribute.get_strategy())
        ```
    """
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def make_multi_worker(
    resolver: tf.distribute.cluster_resolver.ClusterResolver,
    timeout_seconds: float = 60.0,
    start_timeout_seconds: float = 600.0,
) -> tf.distribute.Strategy:
    """Connects to the other workers.

    A worker that dies closes its connections, so that the others' next collective fails at once. One
    that goes silent, because its machine or the network is down, counts as lost after
    `timeout_seconds`; then the others' collectives fail as well.

    Args:
        resolver: addresses of the workers, as `cluster.make_resolver` returns them.
        timeout_seconds: time without a heartbeat after which a worker counts as lost.
        start_timeout_seconds: longest wait for all workers to start.

    Raises:
        ValueError: if they do not start in time.
    """
    cluster = multi_worker_util.normalize_cluster_spec(resolver.cluster_spec())
    # There is no public way to set the timeout for a silent worker.
    runtime = context.context()
    settings = {
        "service_type": "standalone",
        "service_leader": multi_worker_util.coordination_leader(cluster),
        "coordinated_jobs": [_job(name, cluster.num_tasks(name)) for name in cluster.jobs],
        "heartbeat_timeout_in_ms": int(timeout_seconds * 1000),
        "cluster_register_timeout_in_ms": int(start_timeout_seconds * 1000),
    }
    runtime.configure_coordination_service(**settings)
    # TensorFlow logs a line for each traced collective, hundreds for a network.
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        raise ValueError(
            f"the workers {cluster.as_dict()} could not connect: {first_line(error)}"
        ) from error


def _job(name: str, num_tasks: int):
    from tensorflow.python.distribute import collective_all_reduce_strategy as module

    return module.coordination_config_pb2.CoordinatedJob(name=name, num_tasks=num_tasks)


def gather(strategy: tf.distribute.Strategy, value: float) -> np.ndarray:
    """Gathers a number from each worker on all of them; every worker must call it at the same place.

    Args:
        strategy: distribution strategy of the run.
        value: this worker's number.

    Returns:
        `(number of workers,)` float64; `value` alone in a run of one process.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.training.workers import gather

        assert gather(tf.distribute.get_strategy(), 3.0).tolist() == [3.0]
        ```
    """
    if not is_multi_worker(strategy):
        return np.array([value])

    gathered = _exchange(strategy)(tf.constant(value, tf.float64))
    values = strategy.experimental_local_results(gathered)[0].numpy()
    # One value per worker, from its first replica.
    return values[:: len(strategy.extended.worker_devices)]


@functools.lru_cache(maxsize=1)
def _exchange(strategy: tf.distribute.Strategy) -> Callable:
    """Makes the gathering function. Cached, since it is traced and called for every window."""

    @tf.function
    def exchange(value):
        def replica(value):
            replica_context = tf.distribute.get_replica_context()
            return replica_context.all_gather(tf.reshape(value, [1]), axis=0)

        return strategy.run(replica, args=(value,))

    return exchange


def share_state(strategy: tf.distribute.Strategy, task: Task) -> None:
    """Copies the chief's weights and optimizer state to all workers.

    Only the chief needs the checkpoint, and no two workers can continue from different steps.

    Args:
        strategy: distribution strategy of the run.
        task: compiled, its optimizer built.

    Example:
        ```python
        import keras
        import tensorflow as tf
        from pixpro_keras.task import Task
        from pixpro_keras.training.workers import share_state

        task = Task()
        task.compile(keras.optimizers.SGD(0.1))
        task.optimizer.build(task.trainable_variables)
        share_state(tf.distribute.get_strategy(), task)
        ```
    """
    if not is_multi_worker(strategy):
        return
    variables: list[keras.Variable] = [*task.weights, *task.seeds, *task.optimizer.variables]

    @tf.function
    def exchange(values):
        def replica(values):
            replica_context = tf.distribute.get_replica_context()
            # Only the chief's first replica adds its values to the sum; the others add 0.
            is_sender = replica_context.replica_id_in_sync_group == 0
            sent = [tf.where(is_sender, value, tf.zeros_like(value)) for value in values]
            return replica_context.all_reduce(tf.distribute.ReduceOp.SUM, sent)

        return strategy.run(replica, args=(values,))

    for kind, wide in ((np.floating, np.float32), (np.integer, np.int64)):
        group = [one for one in variables if np.issubdtype(one.dtype, kind)]
        own = [tf.constant(keras.ops.convert_to_numpy(one).astype(wide)) for one in group]
        for variable, value in zip(group, exchange(own), strict=True):
            value = strategy.experimental_local_results(value)[0].numpy()
            variable.assign(value.astype(variable.dtype))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """True where this process writes the checkpoints and logs of the run.

    Args:
        strategy: distribution strategy of the run.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.training.workers import is_chief

        assert is_chief(tf.distribute.get_strategy())
        ```
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    if resolver.task_type == "worker":
        return resolver.task_id == 0 and not resolver.cluster_spec().as_dict().get("chief")
    return resolver.task_type == "chief"


@contextlib.contextmanager
def worker_errors(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Context that converts a failed exchange with a lost worker to `WorkerLostError`.

    Args:
        strategy: distribution strategy of the run.

    Raises:
        WorkerLostError: on leaving, if another worker is gone.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.training.workers import gather, worker_errors

        strategy = tf.distribute.get_strategy()
        with worker_errors(strategy):
            gather(strategy, 0)
        ```
    """
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
    """Context that the chief runs before the others, to prepare files that all read.

    Args:
        strategy: distribution strategy of the run.

    Raises:
        WorkerLostError: if another worker is gone.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.training.workers import chief_first

        with chief_first(tf.distribute.get_strategy()):
            pass  # prepare the files
        ```
    """
    with worker_errors(strategy):
        if not is_chief(strategy):
            gather(strategy, 0)
        yield
        if is_chief(strategy):
            gather(strategy, 0)


@contextlib.contextmanager
def chief_alone(strategy: tf.distribute.Strategy) -> Iterator[bool]:
    """Context at whose end all workers wait for each other, for work of the chief alone.

    Without it the others would exit meanwhile, and the chief would take their exit for a failure.

    Args:
        strategy: distribution strategy of the run.

    Yields:
        Whether this is the chief.

    Raises:
        WorkerLostError: if another worker is gone.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.training.workers import chief_alone

        with chief_alone(tf.distribute.get_strategy()) as is_chief:
            assert is_chief  # write the results
        ```
    """
    with worker_errors(strategy):
        yield is_chief(strategy)
        gather(strategy, 0)
