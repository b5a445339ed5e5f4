"""On what a run was computed, and what is no longer identical when it goes on elsewhere."""

import json
import pathlib

import keras
import tensorflow as tf
from absl import logging

from pixpro_keras.cli.shared.common_flags import FLAGS
from pixpro_keras.utils.files import write_atomically

_FILE = "devices.json"


def note(workdir: pathlib.Path, strategy: tf.distribute.Strategy, is_resumed: bool) -> None:
    """Writes `devices.json`; where a run goes on elsewhere, the log says what that changes.

    Args:
        workdir: the run's directory.
        strategy: where it runs.
        is_resumed: whether it goes on from a checkpoint.
    """
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    now = {
        "replicas": strategy.num_replicas_in_sync,
        "device": "TPU" if isinstance(strategy, tf.distribute.TPUStrategy) else kind,
        "precision": FLAGS.precision,
        "batch_size": FLAGS.batch_size,
        "accumulate_steps": FLAGS.accumulate_steps,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    file = workdir / _FILE
    if is_resumed and file.exists():
        try:
            before = dict(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            before = {}
        changed = [
            f"{name} was {before[name]}, is {value}"
            for name, value in now.items()
            if before.get(name, value) != value
        ]
        if changed:
            same = "The order of the images, their views and the global batch stay the same"
            if before.get("batch_size", FLAGS.batch_size) != FLAGS.batch_size:
                same = "The views of an image at a place in the stream stay the same"
            logging.warning(
                "This run goes on elsewhere: %s. %s; sums are rounded in another order, so that the "
                "weights will not be those of an unbroken run to the last bit.",
                ", ".join(changed),
                same,
            )
    write_atomically(file, (json.dumps(now, indent=2) + "\n").encode())
