"""One of the workers of `workers_test.py`: trains, stops, continues, and loses the other."""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from pixpro_keras.data import pipeline, sources
from pixpro_keras.training import strategy as strategies
from pixpro_keras.training import workers
from pixpro_keras.training.callbacks import SaveCheckpoints
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.training.loop import train
from tests.helpers.quick_graphs import make_graphs_quickly
from tests.helpers.steps import build
from tests.helpers.tiny_runs import Record, StopAt

BATCH, STEPS, STOPPED = 8, 6, 4


def train_on_photos(model, strategy, photos, callbacks=(), steps_per_execution=1):
    """Trains to the end of the epoch, from the step of the model."""
    source = sources.open_source(f"folder:{photos}")
    config = pipeline.DataConfig(image_size=16, use_xla=False)
    first_step = model.steps_done()

    def batches(context):
        return pipeline.make_dataset(
            source,
            config,
            global_batch_size=BATCH,
            replica_batch_size=BATCH // strategy.num_replicas_in_sync,
            preprocess=lambda views: views / 127.5 - 1,
            start_step=first_step,
            input_pipeline_id=context.input_pipeline_id,
            num_input_pipelines=context.num_input_pipelines,
        )

    record = Record()
    train(
        model,
        strategy.distribute_datasets_from_function(batches),
        strategy=strategy,
        epochs=1,
        steps_per_epoch=STEPS,
        batch_size=BATCH,
        callbacks=[record, *callbacks],
        log_every_steps=2,
        steps_per_execution=steps_per_execution,
    )
    return [call[2] for call in record.calls if call[0] == "batch"]


def main(photos, folder):
    make_graphs_quickly()
    strategy = strategies.make_strategy("multi_worker")
    is_chief = workers.is_chief(strategy)
    rank = int(strategy.cluster_resolver.task_id)
    assert workers.gather(strategy, rank + 5).tolist() == [5, 6]
    with strategy.scope():
        model = build(synchronized=True)
    # Only the chief keeps checkpoints, and only the other worker is told to stop, within a window.
    checkpoints = Checkpoints(folder / "checkpoints", model, {})
    save = SaveCheckpoints(checkpoints, 100)
    losses = train_on_photos(model, strategy, photos, [save if is_chief else StopAt(STOPPED - 1)])
    assert model.steps_done() == STOPPED, model.steps_done()
    for weight in model.weights:
        weight.assign(tf.cast(tf.fill(weight.shape, 7 + rank), weight.dtype))
    if is_chief:
        assert checkpoints.restore() == STOPPED
    workers.share_state(strategy, model)
    assert model.steps_done() == STOPPED, model.steps_done()
    losses += train_on_photos(model, strategy, photos, steps_per_execution=2)
    arrays = {f"weight{index}": weight.numpy() for index, weight in enumerate(model.weights)}
    np.savez(folder / f"worker{rank}.npz", losses=losses, **arrays)
    try:
        workers.gather(strategy, 0)  # which the other one may leave first
        if not is_chief:
            os._exit(5)  # as if it were killed
        workers.gather(strategy, 0)
    except tf.errors.UnavailableError:
        (folder / "noticed").touch()


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
