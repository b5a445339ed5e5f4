"""Functions of batches, spread over the replicas of this machine."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pixpro_keras.types import Tensor


def over_replicas(
    function: Callable[[Tensor], Tensor],
    batch_size: int,
    strategy: tf.distribute.Strategy | None = None,
) -> Callable[[Tensor], np.ndarray]:
    """Traces a function of batches and gives each replica its rows of a batch.

    Args:
        function: function of `(b, ...)` to `(b, ...)`, each row by itself, without collectives.
        batch_size: rows of a batch. A smaller one is filled up with zeros, so that shapes stay the
            same.
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
    is_one = strategy.num_replicas_in_sync == 1
    num_replicas = 1 if is_one else len(strategy.extended.worker_devices)

    @tf.function(autograph=False, reduce_retracing=True)
    def run(part):
        return strategy.run(function, args=(part,))

    def spread(rows: Tensor) -> np.ndarray:
        count = rows.shape[0]
        size = -(-max(count, batch_size) // num_replicas) * num_replicas
        padding = [[0, size - count]] + [[0, 0]] * (len(rows.shape) - 1)
        parts = tf.split(tf.pad(rows, padding), num_replicas)
        # Of several machines each has its own rows; replicas are numbered through all of them.
        values = strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group % num_replicas]
        )
        results = strategy.experimental_local_results(run(values))
        return np.concatenate([one.numpy() for one in results])[:count]

    return spread
