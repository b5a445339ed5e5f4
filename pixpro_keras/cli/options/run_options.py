"""Options of all commands with a network: devices, precision, seed, folders; options of the model card."""

import dataclasses
import re
from typing import TypeVar

from pixpro_keras.cli.options.option_fields import Options, option
from pixpro_keras.training.precision import best_precision
from pixpro_keras.training.run_config import PRECISIONS
from pixpro_keras.training.strategy import STRATEGIES
from pixpro_keras.weights.card import UNKNOWN_LICENSE

AUTO = "auto"

RunT = TypeVar("RunT", bound="RunOptions")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Options of the run."""

    strategy: str = option(
        "auto",
        "Devices to train on. auto: the TPU that TPU_NAME names, else the machines of --cluster if "
        "TF_CONFIG is set, else all GPUs of this machine if it has several, else one device.",
        choices=STRATEGIES,
        is_main=True,
    )
    precision: str = option(
        "float32",
        "Dtype policy; weights stay float32. mixed_float16 is for NVIDIA GPUs, mixed_bfloat16 for TPUs, "
        "GPUs of compute capability 8.0 or more and CPUs with AVX512-BF16 or AMX; auto chooses "
        "mixed_bfloat16 on these and float32 elsewhere.",
        choices=(AUTO, *PRECISIONS),
        is_main=True,
    )
    # Not an option: result of `auto`.
    precision_reason: str = ""
    seed: int = option(
        0,
        "Seed of the initialization, the order of the images and the augmentation.",
        minimum=0,
        maximum=2**32 - 1,
        is_main=True,
    )
    workdir: str = option(
        "runs/pretrain",
        "Directory of the run: flags, checkpoints, logs, pictures, export.",
        is_main=True,
    )
    data_dir: str | None = option(
        None, "Directory of prepared TFDS data sets. Default: ~/tensorflow_datasets."
    )


def resolve_precision(options: RunT) -> RunT:
    """Returns options whose precision is a dtype policy, that of this machine for `auto`."""
    if options.precision != AUTO:
        return options
    policy, reason = best_precision(options.strategy)
    return options.replace(precision=policy, precision_reason=reason)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CardOptions(Options):
    """Options of the model card."""

    license: str = option(
        UNKNOWN_LICENSE,
        "License of the exported weights for the model card, as an identifier of Hugging Face: "
        "apache-2.0, cc-by-nc-4.0, other, ... The license of the training images may limit the choice.",
        check=lambda value: re.fullmatch(r"[a-z0-9][a-z0-9.-]*", value) is not None,
        must="be an abbreviation such as apache-2.0",
    )
