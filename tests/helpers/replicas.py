"""Two replicas on two logical processors (`tests/conftest.py` makes them)."""

import numpy as np
import tensorflow as tf


def two_cpus():
    # The default on CPUs, collective ops, keeps state that a second strategy stumbles over.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)


def per_replica(strategy, batch):
    """Cuts a batch into the replicas' consecutive parts."""
    num = strategy.num_replicas_in_sync

    def value(context):
        index = context.replica_id_in_sync_group
        return {key: tf.constant(np.split(array, num)[index]) for key, array in batch.items()}

    return strategy.experimental_distribute_values_from_function(value)
