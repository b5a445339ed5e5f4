"""A finished pre-training, or one that goes on, as another job looks at it."""

import contextlib
import pathlib
from collections.abc import Iterator

from absl import flags
from absl.testing import flagsaver

from pixpro_keras.cli.shared import (
    method_flags,
    view_flags,  # noqa: F401 (flags of a run)
)
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError
from pixpro_keras.methods import PretrainMethod
from pixpro_keras.training.checkpoints import latest_checkpoint, load_weights


def run_folder(path: str | None) -> pathlib.Path | None:
    """The path, if it is the folder of a pre-training with its `flags.cfg`."""
    file = pathlib.Path(path or "").expanduser() / "flags.cfg"
    if path is None or not file.is_file() or "--method=" not in file.read_text():
        return None
    return file.parent


@contextlib.contextmanager
def flags_of(folder: pathlib.Path | None) -> Iterator[None]:
    """Inside, flags have the values with which a run was started, as far as this job knows them.

    Args:
        folder: of the run; without one nothing changes.

    Raises:
        FlagError: if its `flags.cfg` cannot be used.
    """
    with flagsaver.flagsaver():
        if folder is not None:
            try:
                FLAGS(["", f"--flagfile={folder / 'flags.cfg'}"], known_only=True)
            except flags.Error as error:
                raise FlagError(f"{folder / 'flags.cfg'}: {error}") from error
        yield


def load_method(folder: pathlib.Path) -> PretrainMethod | None:
    """All networks of a run, from its newest checkpoint; None without one.

    `--output_stride` is this job's, since it changes no weights.

    Raises:
        FlagError: if its `flags.cfg` cannot be used.
        CheckpointError: if the checkpoint cannot.
    """
    path, stride = latest_checkpoint(folder / "checkpoints"), FLAGS.output_stride
    if path is None:
        return None
    with flags_of(folder):
        FLAGS.output_stride = stride
        method = method_flags.build_method(total_steps=1)
    load_weights(method, path)
    return method
