"""Optimizers and learning-rate schedules of the pre-training recipes."""

from pixpro_keras.optimizers.lars import LARS
from pixpro_keras.optimizers.schedules import WarmupCosine

__all__ = ["LARS", "WarmupCosine"]
