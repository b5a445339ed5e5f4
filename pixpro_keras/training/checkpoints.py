"""Checkpoints of a run: everything that the next step depends on, written atomically."""

import json
import math
import os
import pathlib
import re
import shutil

import keras
import tensorflow as tf
from absl import logging

from pixpro_keras.task import Task
from pixpro_keras.utils.checks import at_least
from pixpro_keras.utils.checksums import check_files, write_manifest
from pixpro_keras.utils.errors import UserError, first_line
from pixpro_keras.utils.files import survive_disk, write_atomically

_NAME = "ckpt-{}"
# Variables of a LossScaleOptimizer, before those of the optimizer in it.
_NUM_OF_LOSS_SCALE = 4
_FILE = re.compile(r"ckpt-(\d+)\.(index|sha256|data-\d+-of-\d+)")


class CheckpointError(UserError, ValueError):
    """A checkpoint that does not belong to this run or cannot be read."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are missing, truncated or changed."""


class SaveError(UserError, RuntimeError):
    """A checkpoint could not be written."""


class Checkpoints:
    """The last few checkpoints of a run in one directory.

    A checkpoint holds all weights (online, target, batch-norm statistics), the optimizer, the
    step, and the states of random layers such as dropout. The order of the samples is a function of
    seed and step, so there is nothing else to save. Checkpoint 8 is `ckpt-8.index`, `ckpt-8.data-*`
    and, written last, `ckpt-8.sha256`. `model.json` beside them identifies the model.

    Args:
        directory: folder of the checkpoints; created when missing.
        task: the compiled model, its optimizer built.
        identity: properties that make two runs' weights interchangeable (method, backbone, ...), JSON values.
        keep: number of checkpoints kept, at least 1.

    Raises:
        CheckpointError: if TensorFlow cannot read from the directory because of characters in its path.

    Example:
        ```python
        import tempfile

        import keras
        from pixpro_keras.task import Task
        from pixpro_keras.training import Checkpoints

        task = Task()
        task.compile(keras.optimizers.SGD(0.1))
        task.optimizer.build(task.trainable_variables)
        checkpoints = Checkpoints(tempfile.mkdtemp(), task, {"model": "tiny"})
        assert checkpoints.restore() == 0
        task.step.assign(8)
        checkpoints.save()
        assert checkpoints.restore() == 8
        ```
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        task: Task,
        identity: dict,
        keep: int = 3,
    ):
        self._directory = pathlib.Path(directory)
        _check_path(self._directory)
        # As read back from JSON: tuples become lists.
        self._identity = json.loads(json.dumps(identity))
        self._task = task
        self._keep = at_least("keep", keep, 1)
        # By position, since attribute tracking silently skips layers in dicts.
        groups = {"weights": task.weights, "optimizer": task.optimizer.variables}
        if task.seeds:
            groups["seeds"] = task.seeds
        self._checkpoint = tf.train.Checkpoint(
            **{name: [v.value for v in variables] for name, variables in groups.items()}
        )

    def restore(self) -> int:
        """Loads the newest intact checkpoint, if there is one.

        Returns:
            The step from which the run continues; 0 without a checkpoint.

        Raises:
            CheckpointError: if the checkpoint belongs to another model, or none of them is intact.
        """
        steps = checkpoint_steps(self._directory)
        if not steps:
            return 0
        self._check_identity()
        reasons = []
        for step in steps:
            path = self._path(step)
            try:
                self._read(path)
            except DamagedCheckpointError as error:
                logging.warning("Skipped: %s", error)
                reasons.append(str(error))
                continue
            step = self._task.steps_done()
            logging.info("Continuing from %s (step %d).", path, step)
            return step
        raise CheckpointError(
            f"none of the {len(steps)} checkpoints in {self._directory} is intact; use another "
            f"directory for a new run. {'; '.join(reasons)}"
        )

    def check_space(self) -> None:
        """Checks that the disk has space for a checkpoint; the log says if it has none for all that are kept.

        Raises:
            SaveError: if there is no space for a single one, so that all steps would be lost.
        """
        folder = self._directory.absolute()
        disk = shutil.disk_usage(next(x for x in (folder, *folder.parents) if x.exists()))
        if not disk.total:  # Some network disks do not tell.
            return
        groups = (self._task.weights, self._task.optimizer.variables)
        size = sum(math.prod(v.shape) * v.value.dtype.size for group in groups for v in group)
        place = f"{folder.parent}: the disk has {disk.free / 2**20:,.0f} MiB left"
        if size > disk.free:
            raise SaveError(
                f"{place}, and a checkpoint takes {size / 2**20:,.0f} MiB, so that no step could be saved"
            )
        # The oldest is deleted only after the newest is whole.
        num_missing = self._keep + 1 - len(checkpoint_steps(self._directory))
        if num_missing * size > disk.free:
            logging.warning(
                "%s, and %d checkpoints of %s MiB are still to be written; keep_checkpoints is their number.",
                place,
                num_missing,
                f"{size / 2**20:,.0f}",
            )

    def save(self) -> str:
        """Writes a checkpoint of the current step, then deletes those that are not kept.

        Returns:
            Its path prefix.

        Raises:
            SaveError: if it cannot be written; existing ones stay unchanged.
        """
        step = self._task.steps_done()
        path = self._path(step)
        manifest = pathlib.Path(f"{path}.sha256")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self._identity, indent=2, sort_keys=True) + "\n"
            write_atomically(self._directory / "model.json", text.encode())
            manifest.unlink(missing_ok=True)
            self._checkpoint.write(path)
            files = self._directory.glob(f"{_NAME.format(step)}.*")
            write_manifest(manifest, [file.name for file in files])
        except (OSError, tf.errors.OpError) as error:
            _remove(self._directory, step)  # An incomplete checkpoint is useless.
            raise SaveError(
                f"the checkpoint of step {step} cannot be written: {first_line(error)}"
            ) from error
        with survive_disk("the name of the newest checkpoint, for tf.train.latest_checkpoint,"):
            state = f'model_checkpoint_path: "{_NAME.format(step)}"\n'
            write_atomically(self._directory / "checkpoint", state.encode())
        self._tidy(step)
        return path

    def _path(self, step: int) -> str:
        return str(self._directory / _NAME.format(step))

    def _read(self, path: str) -> None:
        groups = _places(_open(path), path, self._task, optimizer=True)
        checkpoint = tf.train.Checkpoint(
            **{
                name: {str(place): v.value for place, v in variables.items()}
                for name, variables in groups.items()
            }
        )
        try:
            checkpoint.read(path).assert_existing_objects_matched()
        except Exception as error:  # TensorFlow's reader raises many kinds of errors.
            raise _damaged(path, error) from error

    def _tidy(self, newest: int) -> None:
        """Deletes incomplete checkpoints, old ones, and those after `newest`."""
        steps = checkpoint_steps(self._directory)
        whole = [step for step in steps if os.path.exists(f"{self._path(step)}.index")]
        kept = [step for step in whole if step <= newest][: self._keep]
        for step in set(steps) - set(kept):
            _remove(self._directory, step)
        for half in [*self._directory.glob("ckpt-*_temp*"), *self._directory.glob(".ckpt-*")]:
            _delete(half)

    def _check_identity(self) -> None:
        file = self._directory / "model.json"
        if not file.exists():
            return
        try:
            stored = json.loads(file.read_text())
            names = sorted(set(stored) | set(self._identity))
            changed = [
                f"{name} was {stored.get(name, 'absent')}, is {self._identity.get(name, 'absent')}"
                for name in names
                if stored.get(name) != self._identity.get(name)
            ]
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{file}, which identifies the model of the checkpoints, is damaged: {error}"
            ) from error
        if changed:
            raise CheckpointError(
                f"{self._directory} holds checkpoints of another model: {'; '.join(changed)}; use another "
                "directory for a new run"
            )


def checkpoint_steps(directory: str | os.PathLike) -> list[int]:
    """Lists the steps that have files of a checkpoint, complete or not, newest first.

    Args:
        directory: folder of the checkpoints, which may be missing.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training.checkpoints import checkpoint_steps

        assert checkpoint_steps(tempfile.mkdtemp()) == []
        ```
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    matches = (_FILE.fullmatch(name) for name in names)
    return sorted({int(match[1]) for match in matches if match}, reverse=True)


def latest_checkpoint(directory: str | os.PathLike) -> str | None:
    """Returns the path prefix of the newest checkpoint in a directory, or None.

    A checkpoint whose writing was interrupted has no index file, and does not count.

    Args:
        directory: folder of the checkpoints, which may be missing.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training.checkpoints import latest_checkpoint

        assert latest_checkpoint(tempfile.mkdtemp()) is None
        ```
    """
    paths = (os.path.join(directory, _NAME.format(step)) for step in checkpoint_steps(directory))
    return next((path for path in paths if os.path.exists(f"{path}.index")), None)


def load_weights(task: Task, path: str, optimizer: bool = False) -> None:
    """Loads a checkpoint's weights into a task.

    Args:
        task: of the architecture that the checkpoint was written for.
        path: the checkpoint's path prefix, as `Checkpoints.save` returns it.
        optimizer: whether the optimizer's state is loaded too; it must be built then.

    Raises:
        CheckpointError: if it cannot be read or belongs to another model.

    Example:
        ```python
        import tempfile

        import keras
        from pixpro_keras.task import Task
        from pixpro_keras.training.checkpoints import Checkpoints, load_weights

        task = Task()
        task.compile(keras.optimizers.SGD(0.1))
        task.optimizer.build(task.trainable_variables)
        task.step.assign(8)
        path = Checkpoints(tempfile.mkdtemp(), task, {}).save()
        other = Task()
        load_weights(other, path)
        assert other.steps_done() == 8
        ```
    """
    reader = _open(path)
    for group, variables in _places(reader, path, task, optimizer).items():
        for place, variable in variables.items():
            try:
                variable.assign(reader.get_tensor(_key(group, place)))
            except Exception as error:  # as above
                raise _damaged(path, error) from error


def _check_path(path: str | os.PathLike) -> None:
    """Raises a CheckpointError for a path from which no checkpoint can be read, though it can be written."""
    if re.search(r"[\[\\]", os.fspath(path)):
        raise CheckpointError(
            "checkpoints need a path without [ and \\, which TensorFlow takes for a pattern when it reads "
            f"them; rename the directory, or use another one. Received: {path}"
        )


def _open(path: str):
    """Opens a checkpoint, after checking its files against its manifest if it has one."""
    _check_path(path)
    manifest = pathlib.Path(f"{path}.sha256")
    try:
        if manifest.exists():
            check_files(manifest)
        return tf.train.load_checkpoint(path)
    except Exception as error:  # TensorFlow's reader raises many kinds of errors.
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"checkpoint {path} cannot be read: {first_line(error)}")


def _remove(directory: pathlib.Path, step: int) -> None:
    """Deletes the files of a checkpoint, the manifest and the index first."""
    name = _NAME.format(step)
    for file in [
        directory / f"{name}.sha256",
        directory / f"{name}.index",
        *directory.glob(f"{name}.data-*"),
        *directory.glob(f"{name}_temp*"),
    ]:
        _delete(file)


def _delete(path: pathlib.Path) -> None:
    """Deletes a file or folder if possible."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        logging.warning("%s cannot be deleted: %s", path, error)


def _key(group: str, index: int) -> str:
    return f"{group}/{index}/.ATTRIBUTES/VARIABLE_VALUE"


def _places(reader, path: str, task: Task, optimizer: bool) -> dict[str, dict[int, keras.Variable]]:
    """Variables to read from a checkpoint, by group and place in it.

    A run may continue with another precision: the loss scale, which only mixed_float16 has, keeps its
    value if the checkpoint has none, and is skipped if the task has none.

    Raises:
        CheckpointError: if the checkpoint has other variables.
    """
    stored = reader.get_variable_to_shape_map()
    groups = {"weights": dict(enumerate(task.weights))}
    num_stored = {"weights": len(task.weights)}
    if optimizer:
        scale, variables = [], task.optimizer.variables
        if isinstance(task.optimizer, keras.mixed_precision.LossScaleOptimizer):
            variables = task.optimizer.inner_optimizer.variables
            scale = task.optimizer.variables[:_NUM_OF_LOSS_SCALE]
        has_scale = _count(stored, "optimizer") == _NUM_OF_LOSS_SCALE + len(variables)
        first = _NUM_OF_LOSS_SCALE if has_scale else 0
        groups["optimizer"] = dict(enumerate(variables, first)) | dict(enumerate(scale[:first]))
        num_stored["optimizer"] = first + len(variables)
        if _count(stored, "seeds"):  # Checkpoints of old versions have none.
            groups["seeds"] = dict(enumerate(task.seeds))
            num_stored["seeds"] = len(task.seeds)
    for group, variables_by_place in groups.items():
        if _count(stored, group) != num_stored[group]:
            raise CheckpointError(
                f"checkpoint {path} belongs to another model: it holds {_count(stored, group)} variables "
                f"of the {group}, this model has {num_stored[group]}"
            )
        for place, variable in variables_by_place.items():
            shape = tuple(stored.get(_key(group, place), ()))
            if shape != tuple(variable.shape):
                raise CheckpointError(
                    f"checkpoint {path} belongs to another model: {variable.path} has the shape "
                    f"{shape} there and {tuple(variable.shape)} here"
                )
    return groups


def _count(stored: dict, group: str) -> int:
    """Number of stored variables in a group."""
    return sum(name.startswith(f"{group}/") for name in stored)
