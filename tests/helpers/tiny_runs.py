"""Short runs of small methods, and callbacks that record and stop them."""

from typing import ClassVar

import keras
import tensorflow as tf

from pixpro_keras.task import Task
from pixpro_keras.training.loop import train
from tests.helpers.tiny_networks import random_batch

STEPS, EPOCHS, BATCH = 4, 3, 8


def batches(first, batch_size=BATCH, part=slice(None)):
    """Yields the batches of a run from step `first` on."""
    for step in range(first, 1000):
        yield {k: tf.constant(v[part]) for k, v in random_batch(batch_size, seed=step).items()}


def run(model, callbacks=(), epochs=EPOCHS, log_every_steps=2, **kwargs):
    train(
        model,
        batches(model.steps_done()),
        strategy=tf.distribute.get_strategy(),
        epochs=epochs,
        steps_per_epoch=STEPS,
        batch_size=BATCH,
        callbacks=callbacks,
        log_every_steps=log_every_steps,
        **kwargs,
    )


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if logs["step"] == self.step:
            self.model.stop_training = True


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(("begin", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch", batch, logs["loss"]))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("end", epoch, logs["loss"]))


class Square(Task):
    """A square; the batch is a dict of one number."""

    loss_bounds: ClassVar = {"square": (0.0, None)}

    def __init__(self):
        super().__init__()
        self.slope = self.add_weight(name="slope", shape=(), initializer="ones")

    def call(self, batch, training=False):
        return {"square": keras.ops.mean(keras.ops.square(self.slope * batch["x"]))}


def compiled_square():
    """Makes a compiled `Square` with its optimizer built."""
    task = Square()
    task.compile(keras.optimizers.SGD(0.01), jit_compile=False)
    task.optimizer.build(task.trainable_variables)
    return task
