"""Header of a training, printed before it starts."""

import os
import pathlib
import shutil
from collections.abc import Mapping

import tensorflow as tf

from pixpro_keras.cli.options.training_options import TrainingJobOptions, build_schedule
from pixpro_keras.training.workers import is_chief

_INSTALL = "pip install 'tensorflow[and-cuda]'"
# Paths that exist with the drivers of Linux and of WSL.
_NVIDIA = (pathlib.Path("/proc/driver/nvidia/gpus"), pathlib.Path("/usr/lib/wsl/lib/nvidia-smi"))


def print_header(
    options: TrainingJobOptions,
    strategy: tf.distribute.Strategy,
    num_images: int,
    *,
    task: Mapping[str, str],
    data: str,
    first_step: int = 0,
) -> None:
    """Prints the header of a training in the process that writes.

    Args:
        options: resolved.
        strategy: devices of the training.
        num_images: number of training images.
        task: first lines, name -> value: method or task, and backbone.
        data: the training images.
        first_step: step from which the run continues.
    """
    if not is_chief(strategy):
        return
    reason = options.precision_reason
    epochs = "1 epoch" if options.epochs == 1 else f"{options.epochs} epochs"
    steps = f"{options.total_steps}: {epochs} of {options.steps_per_epoch} steps"
    rows = {
        "device": describe_devices(strategy),
        "precision": options.precision + (f", for {reason}" if reason else ""),
        "data": f"{data}, {num_images} images",
        "steps": f"{steps} of {options.batch_size} images"
        + (f"; continues from step {first_step}" if first_step else ""),
        "learning rate": _describe_rate(options),
        "workdir": options.workdir,
    }
    print(header_text({**task, **rows}), flush=True)


def _describe_rate(options: TrainingJobOptions) -> str:
    """Highest learning rate; if the warm-up takes the whole run, also why the peak is not reached."""
    peak, total = f"{options.peak_learning_rate:.4g}", options.total_steps
    if options.warmup_steps < total:
        return f"{peak} at its peak"
    warmup = round(options.warmup_epochs * (options.steps_per_epoch or 1))
    instead = f" instead of {warmup} steps" if warmup > total else ""
    return (
        f"{float(build_schedule(options)(total - 1)):.4g} in the last step; the warm-up takes the whole "
        f"run{instead} and ends before the peak of {peak}"
    )


def header_text(rows: Mapping[str, str]) -> str:
    """Returns the lines of a header."""
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


def describe_devices(strategy: tf.distribute.Strategy) -> str:
    """Describes the devices of a training, and why no GPU is used."""
    replicas = strategy.num_replicas_in_sync
    shared = f", {replicas} replicas" if replicas > 1 else ""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return f"TPU{shared}"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return f"GPU, {details.get('device_name', 'of unknown name')}{shared}"
    return f"CPU, {os.cpu_count()} cores{shared}; no GPU is used{why_no_gpu()}"


def why_no_gpu() -> str:
    """Returns the reason why TensorFlow does not use the NVIDIA card; empty if there is no card."""
    cards, wsl = _NVIDIA
    has_card = wsl.exists() or (cards.is_dir() and any(cards.iterdir()))
    # Other systems: ask the driver's program.
    if not (has_card or (os.name == "nt" and shutil.which("nvidia-smi"))):
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible in ("", "-1"):
        return f": CUDA_VISIBLE_DEVICES={visible} hides the NVIDIA card"
    return f": there is an NVIDIA card, but TensorFlow cannot use it. {_INSTALL} brings CUDA along"
