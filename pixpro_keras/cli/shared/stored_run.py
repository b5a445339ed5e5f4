"""Reader of the folder of a pre-training, finished or not, for other jobs."""

import dataclasses
import pathlib

from pixpro_keras.backbones import public_name
from pixpro_keras.cli.options.method_options import ModelOptions, ModelT, build_method
from pixpro_keras.cli.options.parsing import FLAGS_FILE, load
from pixpro_keras.cli.options.run_options import CardOptions, RunOptions
from pixpro_keras.methods import PretrainMethod
from pixpro_keras.training.checkpoints import latest_checkpoint, load_weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredRun(ModelOptions, CardOptions, RunOptions):
    """Options of a run that other jobs need."""


def run_folder(path: str | None) -> pathlib.Path | None:
    """Returns the path, if it is the folder of a pre-training with its `flags.cfg`."""
    file = pathlib.Path(path or "").expanduser() / FLAGS_FILE
    if path is None or not file.is_file() or "--method=" not in file.read_text():
        return None
    return file.parent


def read_options(folder: pathlib.Path) -> StoredRun:
    """Returns the options of a run, whose folder may have been moved with the file of its network.

    Raises:
        FlagError: if its `flags.cfg` cannot be used.
    """
    return with_moved_backbone(load(StoredRun, folder / FLAGS_FILE), folder)


def with_moved_backbone(options: ModelT, folder: pathlib.Path) -> ModelT:
    """Returns options whose `backbone` is the file of its name in a run's folder, if there is one."""
    inside = folder / public_name(options.backbone)
    return options.replace(backbone=str(inside)) if inside.is_file() else options


def load_method(folder: pathlib.Path, output_stride: str) -> PretrainMethod | None:
    """Returns all networks of a run, from its newest checkpoint; None without one.

    Args:
        folder: folder of the run.
        output_stride: output stride of the backbone, which may differ from the run's.

    Raises:
        FlagError: if its `flags.cfg` cannot be used.
        CheckpointError: if the checkpoint cannot.
    """
    path = latest_checkpoint(folder / "checkpoints")
    if path is None:
        return None
    options = read_options(folder).replace(output_stride=output_stride)
    method = build_method(options, total_steps=1)
    load_weights(method, path)
    return method
