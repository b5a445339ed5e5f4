"""Optimizers and learning-rate schedules of the pre-training recipes."""

from pixpro_keras.optimizers.adamw import AdamW
from pixpro_keras.optimizers.lars import LARS
from pixpro_keras.optimizers.schedules import WarmupCosine, WarmupPoly, WarmupSteps
from pixpro_keras.optimizers.sgd import SGD

__all__ = ["LARS", "SGD", "AdamW", "WarmupCosine", "WarmupPoly", "WarmupSteps"]
