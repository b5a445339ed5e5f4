"""Learning-rate schedules."""

import math

import keras
from keras import ops


@keras.saving.register_keras_serializable("pixpro_keras")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from a fraction of the peak, then cosine decay.

    With w = `warmup_steps`, K = `total_steps`, for step t:

        t <= w:  peak * (f + (1 - f) * t / w)                       f = warmup_fraction
        t > w:   end + (peak - end) * (1 + cos(pi * (t - w) / (K - w))) / 2

    Args:
        peak: learning rate after the warm-up.
        total_steps: steps of the whole run, warm-up included; at least 1.
        warmup_steps: 0 to `total_steps`.
        warmup_fraction: where the warm-up starts, as a share of `peak`; the release's is 1/100.
        end: learning rate of the last step, at least 0; the release's is 1e-6.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        warmup_fraction: float = 0.01,
        end: float = 1e-6,
    ):
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be at least 1. Received: {total_steps}.")
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                f"`warmup_steps` must be in 0..{total_steps} (`total_steps`). "
                f"Received: warmup_steps={warmup_steps}."
            )
        self.peak = peak
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps
        self.warmup_fraction = warmup_fraction
        self.end = end

    def __call__(self, step):
        """Learning rate, scalar float32, of step `step` (the first is 0)."""
        step = ops.cast(step, "float32")
        warmup_steps = max(self.warmup_steps, 1)
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        warmup = self.warmup_fraction + (1 - self.warmup_fraction) * step / warmup_steps
        progress = ops.clip((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        cosine = self.end + (self.peak - self.end) * 0.5 * (1 + ops.cos(math.pi * progress))
        return ops.where(step < self.warmup_steps, self.peak * warmup, cosine)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "warmup_fraction": self.warmup_fraction,
            "end": self.end,
        }
