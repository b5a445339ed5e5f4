"""Functions of batches, spread over the replicas of this machine."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from pixpro_keras.types import Tensor


def num_local_replicas(strategy: tf.distribute.Strategy) -> int:
    """Number of a strategy's replicas on this machine.

    Args:
        strategy: distribution strategy of the run.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.evaluation.replicas import num_local_replicas

        assert num_local_replicas(tf.distribute.get_strategy()) == 1
        ```
    """
    if strategy.num_replicas_in_sync == 1:
        return 1
    return len(strategy.extended.worker_devices)


def split_over_replicas(strategy: tf.distribute.Strategy, batch: Any) -> Any:
    """Gives each replica of this machine its rows of a batch.

    Args:
        strategy: distribution strategy of the run.
        batch: tensor or nested structure of tensors, whose first axis the number of replicas divides.

    Returns:
        Argument of `strategy.run`.

    Raises:
        ValueError: if the number of replicas does not divide the rows.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.evaluation.replicas import split_over_replicas

        strategy = tf.distribute.get_strategy()
        rows = split_over_replicas(strategy, tf.range(4))
        assert strategy.run(lambda part: 2 * part, args=(rows,)).shape == (4,)
        ```
    """
    num_replicas = num_local_replicas(strategy)
    rows = tf.nest.flatten(batch)[0].shape[0]
    if rows % num_replicas:
        raise ValueError(
            f"`batch` must have equal numbers of rows for {num_replicas} replicas. Received: {rows} rows."
        )
    size = rows // num_replicas

    def part(context: tf.distribute.InputContext) -> Any:
        # Each machine has its own rows; replicas are numbered over all machines.
        first = context.replica_id_in_sync_group % num_replicas * size
        return tf.nest.map_structure(lambda value: value[first : first + size], batch)

    return strategy.experimental_distribute_values_from_function(part)


def over_replicas(
    function: Callable[[Tensor], Tensor],
    batch_size: int | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> Callable[[Tensor], np.ndarray]:
    """Traces a function of batches and gives each replica its rows of a batch.

    Args:
        function: function of `(b, ...)` to `(b, ...)` that treats rows independently, without
            collectives.
        batch_size: rows of a batch; None: those of the first one. A smaller batch is padded with
            zeros, so that shapes stay the same.
        strategy: strategy whose replicas on this machine share the work; None is the current one.

    Returns:
        Function of `(n, ...)` to an array of the results of the n rows.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import over_replicas

        double = over_replicas(lambda rows: 2 * rows, batch_size=4)
        print(double(np.arange(3.0)))  # [0. 2. 4.]
        ```
    """
    strategy = strategy or tf.distribute.get_strategy()
    num_replicas = num_local_replicas(strategy)

    @tf.function(autograph=False, reduce_retracing=True)
    def run(part):
        return strategy.run(function, args=(part,))

    def spread(rows: Tensor) -> np.ndarray:
        nonlocal batch_size
        count = rows.shape[0]
        batch_size = batch_size or count
        size = -(-max(count, batch_size) // num_replicas) * num_replicas
        padding = [[0, size - count]] + [[0, 0]] * (len(rows.shape) - 1)
        values = split_over_replicas(strategy, tf.pad(rows, padding))
        results = strategy.experimental_local_results(run(values))
        return np.concatenate([one.numpy() for one in results])[:count]

    return spread
