"""Checkpoints of a run: everything that the next step depends on, written atomically."""

import json
import os
import pathlib

import keras
import tensorflow as tf
from absl import logging

from pixpro_keras.files import write_atomically
from pixpro_keras.task import Task


class CheckpointError(ValueError):
    """A checkpoint that does not belong to this run or cannot be read."""


class Checkpoints:
    """The last few checkpoints of a run in one directory.

    A checkpoint holds all weights (online, target, batch-norm statistics), the optimizer and the
    step. The order of the samples is a function of seed and step, so there is nothing else to
    save. Beside them lies `model.json`, which says what the weights belong to.

    Args:
        directory: where they lie; created when missing.
        task: the compiled model, its optimizer built.
        identity: what makes two runs' weights interchangeable (method, backbone, ...), JSON values.
        keep: number of checkpoints kept, at least 1.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        task: Task,
        identity: dict,
        keep: int = 3,
    ):
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received: keep={keep}.")
        self._directory = pathlib.Path(directory)
        self._identity = identity
        self._task = task
        # By position, not by attributes: those pass over layers in dicts without a word.
        self._variables = {"weights": task.weights, "optimizer": task.optimizer.variables}
        self._checkpoint = tf.train.Checkpoint(
            **{name: [v.value for v in variables] for name, variables in self._variables.items()}
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(self._directory), max_to_keep=keep
        )

    @property
    def latest(self) -> str | None:
        """Path prefix of the newest checkpoint, or None."""
        return self._manager.latest_checkpoint

    def restore(self) -> int:
        """Loads the newest checkpoint if there is one.

        Returns:
            The step from which the run continues; 0 without a checkpoint.

        Raises:
            CheckpointError: if the checkpoint belongs to another model.
        """
        path = self.latest
        if path is None:
            return 0
        self._check_identity()
        reader = _open(path)
        for group, variables in self._variables.items():
            _check_shapes(reader, path, group, variables)
        try:
            self._checkpoint.restore(path).assert_consumed()
        except (AssertionError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(f"checkpoint {path} cannot be read: {reason}") from error
        step = self._task.steps_done()
        logging.info("Continuing from %s (step %d).", path, step)
        return step

    def save(self) -> str:
        """Writes a checkpoint of the current step and returns its path prefix."""
        self._directory.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._identity, indent=2, sort_keys=True) + "\n"
        write_atomically(self._directory / "model.json", text.encode())
        return self._manager.save(checkpoint_number=self._task.steps_done())

    def _check_identity(self) -> None:
        file = self._directory / "model.json"
        if not file.exists():
            return
        stored = json.loads(file.read_text())
        names = sorted(set(stored) | set(self._identity))
        changed = [
            f"{name} was {stored.get(name)}, is {self._identity.get(name)}"
            for name in names
            if stored.get(name) != self._identity.get(name)
        ]
        if changed:
            raise CheckpointError(
                f"{self._directory} holds checkpoints of another model: {'; '.join(changed)}"
            )


def load_weights(task: Task, path: str, optimizer: bool = False) -> None:
    """Loads a checkpoint's weights into a task.

    Args:
        task: of the architecture that the checkpoint was written for.
        path: the checkpoint's path prefix, as `Checkpoints.save` returns it.
        optimizer: whether the optimizer's state is loaded too; it must be built then.

    Raises:
        CheckpointError: if it cannot be read or belongs to another model.
    """
    reader = _open(path)
    groups = {"weights": task.weights}
    if optimizer:
        groups["optimizer"] = task.optimizer.variables
    for group, variables in groups.items():
        _check_shapes(reader, path, group, variables)
    for group, variables in groups.items():
        for index, variable in enumerate(variables):
            variable.assign(reader.get_tensor(_key(group, index)))


def _open(path: str):
    try:
        return tf.train.load_checkpoint(path)
    except (ValueError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"checkpoint {path} cannot be read: {reason}") from error


def _key(group: str, index: int) -> str:
    return f"{group}/{index}/.ATTRIBUTES/VARIABLE_VALUE"


def _check_shapes(reader, path: str, group: str, variables: list[keras.Variable]) -> None:
    stored = reader.get_variable_to_shape_map()
    number = sum(name.startswith(f"{group}/") for name in stored)
    if number != len(variables):
        raise CheckpointError(
            f"checkpoint {path} belongs to another model: it holds {number} variables of the "
            f"{group}, this model has {len(variables)}"
        )
    for index, variable in enumerate(variables):
        shape = tuple(stored[_key(group, index)])
        if shape != tuple(variable.shape):
            raise CheckpointError(
                f"checkpoint {path} belongs to another model: {variable.path} has the shape "
                f"{shape} there and {tuple(variable.shape)} here"
            )
