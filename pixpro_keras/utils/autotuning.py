"""Data sets of `tf.data` without autotuning, whose iterators end without delay."""

import os

import tensorflow as tf

# Processors that this process may use.
NUM_THREADS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)


def without_autotuning(data: tf.data.Dataset) -> tf.data.Dataset:
    """Data set without autotuning, whose iterators can be deleted without delay.

    Deleting an iterator waits for its autotuning thread, which sleeps for up to as long as the
    iterator was in use, at most a minute: TensorFlow 2.21 wakes the thread just before it can see that
    it is to end, and often it sleeps on. Parallel calls then need a number, such as `NUM_THREADS`.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)
