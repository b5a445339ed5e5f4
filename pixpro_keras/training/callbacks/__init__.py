"""Keras callbacks of a run. They work under `model.fit` and under the project's own loop."""

from pixpro_keras.training.callbacks.broken_images_check import BrokenImagesCheck
from pixpro_keras.training.callbacks.collapse_warning import CollapseWarning
from pixpro_keras.training.callbacks.feature_rank import FeatureRank
from pixpro_keras.training.callbacks.nonfinite_steps import NonfiniteSteps, TrainingDivergedError
from pixpro_keras.training.callbacks.progress import Progress
from pixpro_keras.training.callbacks.run_log import RunLog
from pixpro_keras.training.callbacks.save_checkpoints import SaveCheckpoints
from pixpro_keras.training.callbacks.stop_on_signal import StopOnSignal

__all__ = [
    "BrokenImagesCheck",
    "CollapseWarning",
    "FeatureRank",
    "NonfiniteSteps",
    "Progress",
    "RunLog",
    "SaveCheckpoints",
    "StopOnSignal",
    "TrainingDivergedError",
]
