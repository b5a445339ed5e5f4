"""Estimate of a run's time and memory."""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from pixpro_keras.task import Task
from pixpro_keras.training.device_memory import memory_errors
from pixpro_keras.training.loop import train
from pixpro_keras.training.run_config import RunConfig
from pixpro_keras.utils.memory import memory_mib

# Calls of TensorFlow, with `steps_per_execution` steps each. The first half does not count, since it includes
# tracing and takes batches that were prepared meanwhile.
_NUM_CALLS = 8


def estimate_run(
    task: Task,
    make_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset],
    config: RunConfig,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, float]:
    """Estimates time and memory of a run by taking a few steps, which change the task's weights.

    Args:
        task: compiled, its optimizer built, restored by `open_checkpoints`; its step becomes 0.
        make_batches: as of `run_training`.
        config: configuration of the run; nothing is written to its directory.
        strategy: distribution strategy of the run; default: the present one.

    Returns:
        `parameters`: number of trained ones. `images_per_second`. `hours`: time of the steps that are left.
        `memory_mib`: peak memory.

    Raises:
        DeviceMemoryError: if a device has not enough memory.
    """
    strategy = strategy or tf.distribute.get_strategy()
    seen: dict[str, float] = {}

    class LastLogs(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.update(logs or {})

    steps_left = config.total_steps - task.steps_done()
    task.step.assign(0)
    steps = _NUM_CALLS * config.steps_per_execution
    with memory_errors(config):
        train(
            task,
            strategy.distribute_datasets_from_function(make_batches),
            strategy=strategy,
            epochs=1,
            steps_per_epoch=steps,
            batch_size=config.batch_size,
            callbacks=[LastLogs()],
            log_every_steps=steps // 2,
            jit_compile=config.jit_compile,
            steps_per_execution=config.steps_per_execution,
        )
    speed = seen["images_per_second"]
    return {
        "parameters": sum(math.prod(variable.shape) for variable in task.trainable_variables),
        "images_per_second": speed,
        "hours": steps_left * config.batch_size / speed / 3600,
        "memory_mib": memory_mib(),
    }
