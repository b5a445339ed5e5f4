"""Training runs: devices, checkpoints, exact resume, logs, and the loop under every strategy."""

from pixpro_keras.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    DamagedCheckpointError,
    SaveError,
)
from pixpro_keras.training.device_memory import DeviceMemoryError
from pixpro_keras.training.history import (
    FewerStepsError,
    Period,
    RunChangedError,
    read_history,
)
from pixpro_keras.training.loop import train
from pixpro_keras.training.precision import best_precision
from pixpro_keras.training.run import make_devices, open_checkpoints, run_training
from pixpro_keras.training.run_config import RunConfig, RunResult
from pixpro_keras.training.strategy import make_strategy, replica_batch_size
from pixpro_keras.training.trackers import TRACKERS, Tracker, track_run
from pixpro_keras.training.workdir import WorkdirInUseError, open_workdir
from pixpro_keras.training.workers import WorkerLostError, chief_alone, chief_first

__all__ = [
    "TRACKERS",
    "CheckpointError",
    "Checkpoints",
    "DamagedCheckpointError",
    "DeviceMemoryError",
    "FewerStepsError",
    "Period",
    "RunChangedError",
    "RunConfig",
    "RunResult",
    "SaveError",
    "Tracker",
    "WorkdirInUseError",
    "WorkerLostError",
    "best_precision",
    "chief_alone",
    "chief_first",
    "make_devices",
    "make_strategy",
    "open_checkpoints",
    "open_workdir",
    "read_history",
    "replica_batch_size",
    "run_training",
    "track_run",
    "train",
]
