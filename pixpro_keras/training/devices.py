"""Record of a run's devices, and warnings when it continues on other ones."""

import json
import os
import pathlib

import keras
import tensorflow as tf
from absl import logging

from pixpro_keras.utils.files import write_atomically

DEVICES_FILE = "devices.json"


def note_devices(
    workdir: str | os.PathLike,
    strategy: tf.distribute.Strategy,
    *,
    is_resumed: bool,
    precision: str,
    batch_size: int,
    accumulate_steps: int = 1,
) -> None:
    """Writes `devices.json`. If a run continues on other devices, the log states the consequences.

    Args:
        workdir: the run's directory.
        strategy: distribution strategy of the run.
        is_resumed: whether the run continues from a checkpoint.
        precision: name of the dtype policy.
        batch_size: images in a step, all replicas together.
        accumulate_steps: parts into which each replica's batch is cut.

    Raises:
        OSError: if it cannot be written.

    Example:
        ```python
        import tempfile

        import tensorflow as tf
        from pixpro_keras.training.devices import note_devices

        strategy = tf.distribute.get_strategy()
        note_devices(
            tempfile.mkdtemp(), strategy, is_resumed=False, precision="float32", batch_size=64
        )
        ```
    """
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    now = {
        "replicas": strategy.num_replicas_in_sync,
        "device": "TPU" if isinstance(strategy, tf.distribute.TPUStrategy) else kind,
        "precision": precision,
        "batch_size": batch_size,
        "accumulate_steps": accumulate_steps,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    file = pathlib.Path(workdir) / DEVICES_FILE
    if is_resumed and file.exists():
        try:
            before = dict(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError):
            before = {}
        changed = {
            name: f"{name} was {before[name]}, is {value}"
            for name, value in now.items()
            if before.get(name, value) != value
        }
        if changed:
            same = "The order of the images, their views and the global batch stay the same"
            differs = "sums are rounded in another order, so the weights differ slightly"
            if "accumulate_steps" in changed:
                differs = "batch norm and contrastive losses use parts of another size, so the weights differ"
            if "batch_size" in changed:
                same = "With the same seed, the views of an image at a place in the stream stay the same"
                differs = "a step takes another number of images, so the weights differ"
            are_devices = not changed.keys() <= {"batch_size", "accumulate_steps"}
            logging.warning(
                "This run continues %s: %s. %s; %s from those of an uninterrupted run.",
                "on other devices" if are_devices else "with other batches",
                ", ".join(changed.values()),
                same,
                differs,
            )
    write_atomically(file, (json.dumps(now, indent=2) + "\n").encode())
