"""Configuration and result of a training run."""

import dataclasses
import os
import pathlib
import signal
from collections.abc import Mapping, Sequence

from pixpro_keras.training.callbacks.stop_on_signal import exit_code_of
from pixpro_keras.utils.checks import at_least, one_of

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
SAVE_ERROR_ACTIONS = ("continue", "stop")
_COUNTS = (
    "epochs",
    "steps_per_epoch",
    "batch_size",
    "checkpoint_every_steps",
    "keep_checkpoints",
    "max_nonfinite_steps",
    "log_every_steps",
    "steps_per_execution",
    "accumulate_steps",
)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Length, checkpoints and log of a run.

    Attributes:
        workdir: the run's directory; created when missing. `~` is expanded.
        epochs: epochs of the whole run, those before a resume included.
        steps_per_epoch: steps in an epoch.
        batch_size: images in a step, all replicas together.
        checkpoint_every_steps: steps between two checkpoints.
        keep_checkpoints: number of checkpoints kept.
        on_save_error: reaction to a checkpoint that cannot be written: `continue` tries again when
            the next one is due, `stop` ends the run. Older checkpoints stay.
        max_nonfinite_steps: skipped steps in a row that end the run.
        log_every_steps: steps between two lines of `metrics.jsonl`.
        steps_per_execution: largest number of steps in one call of TensorFlow; see `train`.
        jit_compile: whether XLA compiles the step; on one device only.
        precision: name of the dtype policy of the model, noted in `devices.json`.
        accumulate_steps: parts into which each replica's batch is cut; noted in `devices.json`.

    Raises:
        ValueError: naming the argument and its value, if one is out of range.

    Example:
        ```python
        from pixpro_keras.training import RunConfig

        config = RunConfig("runs/first", epochs=10, steps_per_epoch=100, batch_size=64)
        assert config.total_steps == 1000
        ```
    """

    workdir: str | os.PathLike
    epochs: int
    steps_per_epoch: int
    batch_size: int
    checkpoint_every_steps: int = 500
    keep_checkpoints: int = 3
    on_save_error: str = "continue"
    max_nonfinite_steps: int = 10
    log_every_steps: int = 10
    steps_per_execution: int = 1
    jit_compile: bool = False
    precision: str = "float32"
    accumulate_steps: int = 1

    def __post_init__(self):
        for name in _COUNTS:
            at_least(name, getattr(self, name), 1)
        one_of("on_save_error", self.on_save_error, SAVE_ERROR_ACTIONS)
        one_of("precision", self.precision, PRECISIONS)
        object.__setattr__(self, "workdir", pathlib.Path(self.workdir).expanduser())

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch


@dataclasses.dataclass(frozen=True)
class RunResult:
    """State in which a run ended.

    Attributes:
        steps: steps done since the run's beginning.
        stop_signal: the signal that ended the training, on whichever worker; None if it was another reason.
        metrics: the newest line of `metrics.jsonl`; empty where this process writes none.
        measured: step and values of each evaluation during the run, those before a resume included.
        is_dry_run: whether this was a dry run; see `estimate_run`.

    Example:
        ```python
        import signal

        from pixpro_keras.training import RunResult

        assert RunResult(steps=1000).exit_code == 0
        assert RunResult(steps=400, stop_signal=signal.SIGTERM).exit_code == 143
        ```
    """

    steps: int
    stop_signal: signal.Signals | None = None
    metrics: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    measured: Sequence[Mapping[str, float | None]] = ()
    is_dry_run: bool = False

    @property
    def is_complete(self) -> bool:
        """True unless a signal ended the training, or this was a dry run."""
        return self.stop_signal is None and not self.is_dry_run

    @property
    def exit_code(self) -> int:
        """Exit code of the process: 0; 130 after Ctrl-C; 143 after another signal."""
        return 0 if self.stop_signal is None else exit_code_of(self.stop_signal)
