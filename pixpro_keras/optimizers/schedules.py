"""Learning-rate schedules: a linear warm-up, then a decay."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["Warmup", "WarmupCosine", "WarmupPoly", "WarmupSteps"]


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """`peak * (f + (1 - f) * t / w)` for the first w steps, with f = `warmup_fraction`.

    A subclass gives the rates after them in `decayed`.

    Args:
        peak: learning rate after the warm-up.
        total_steps: steps of the whole run, warm-up included; at least 1.
        warmup_steps: w, 0 to `total_steps`.
        warmup_fraction: learning rate of step 0 as a share of `peak`; 1/100 in the PixPro release.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        warmup_fraction: float = 0.01,
    ):
        self.peak = peak
        self.total_steps = checks.at_least("total_steps", total_steps, 1)
        self.warmup_steps = checks.in_range("warmup_steps", warmup_steps, 0, total_steps)
        self.warmup_fraction = warmup_fraction

    def __call__(self, step: Tensor) -> Tensor:
        """Computes the learning rate of step `step` (from 0), scalar float32."""
        step = ops.cast(step, "float32")
        warmup_steps = max(self.warmup_steps, 1)
        warmup = self.warmup_fraction + (1 - self.warmup_fraction) * step / warmup_steps
        return ops.where(step < self.warmup_steps, self.peak * warmup, self.decayed(step))

    def decayed(self, step: Tensor) -> Tensor:
        """Learning rate of a float32 step after the warm-up."""
        raise NotImplementedError(f"{type(self).__name__} must implement `decayed`.")

    def get_config(self) -> dict:
        """Constructor arguments."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
            "warmup_fraction": self.warmup_fraction,
        }


@keras.saving.register_keras_serializable("pixpro_keras")
class WarmupCosine(Warmup):
    """Linear warm-up (`Warmup`), then half a cosine from `peak` to `end`.

    With K = `total_steps` and w = `warmup_steps`, the rate of step t is then

        end + (peak - end) * (1 + cos(pi * (t - w) / (K - w))) / 2

    Args:
        peak: learning rate after the warm-up.
        total_steps: see `Warmup`.
        warmup_steps: see `Warmup`.
        warmup_fraction: see `Warmup`.
        end: learning rate of the last step, at least 0; the PixPro release's is 1e-6.

    Example:
        ```python
        from pixpro_keras.optimizers import WarmupCosine

        schedule = WarmupCosine(peak=4.0, total_steps=100, warmup_steps=10)
        print([float(schedule(step)) for step in (0, 10, 50, 100)])
        ```
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        warmup_fraction: float = 0.01,
        end: float = 1e-6,
    ):
        super().__init__(peak, total_steps, warmup_steps, warmup_fraction)
        self.end = end

    def decayed(self, step: Tensor) -> Tensor:
        """The cosine."""
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        progress = ops.clip((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        return self.end + (self.peak - self.end) * 0.5 * (1 + ops.cos(math.pi * progress))

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {"end": self.end}


@keras.saving.register_keras_serializable("pixpro_keras")
class WarmupSteps(Warmup):
    """Linear warm-up (`Warmup`), then `peak`, multiplied by `factor` at each boundary.

    Args:
        peak: learning rate after the warm-up.
        total_steps: see `Warmup`.
        boundaries: first step of each lower learning rate, in ascending order.
        factor: factor of the learning rate at each boundary, in (0, 1).
        warmup_steps: see `Warmup`.
        warmup_fraction: see `Warmup`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        ```python
        from pixpro_keras.optimizers import WarmupSteps

        schedule = WarmupSteps(peak=0.1, total_steps=100, boundaries=[60, 80])
        print([float(schedule(step)) for step in (0, 10, 50, 100)])
        ```
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        boundaries: Sequence[int],
        factor: float = 0.1,
        warmup_steps: int = 0,
        warmup_fraction: float = 0.01,
    ):
        super().__init__(peak, total_steps, warmup_steps, warmup_fraction)
        if list(boundaries) != sorted(set(boundaries)) or min(boundaries, default=1) < 1:
            raise ValueError(f"`boundaries` must be positive and ascend. Received: {boundaries}.")
        if not 0 < factor < 1:
            raise ValueError(f"`factor` must be in (0, 1). Received: factor={factor}.")
        self.boundaries = list(boundaries)
        self.factor = factor

    def decayed(self, step: Tensor) -> Tensor:
        """The steps."""
        rates = [self.peak * self.factor**k for k in range(len(self.boundaries) + 1)]
        passed = sum((ops.cast(step >= b, "int32") for b in self.boundaries), ops.cast(0, "int32"))
        return ops.take(ops.convert_to_tensor(rates, "float32"), passed)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {"boundaries": self.boundaries, "factor": self.factor}


@keras.saving.register_keras_serializable("pixpro_keras")
class WarmupPoly(Warmup):
    """Linear warm-up (`Warmup`), then `peak * (1 - (t - w) / (K - w)) ** power` in step t of K.

    Args:
        peak: learning rate after the warm-up.
        total_steps: see `Warmup`.
        warmup_steps: see `Warmup`.
        warmup_fraction: see `Warmup`.
        power: positive; 0.9 in semantic segmentation.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        ```python
        from pixpro_keras.optimizers import WarmupPoly

        schedule = WarmupPoly(peak=0.01, total_steps=100)
        print([float(schedule(step)) for step in (0, 10, 50, 100)])
        ```
    """

    def __init__(
        self,
        peak: float,
        total_steps: int,
        warmup_steps: int = 0,
        warmup_fraction: float = 0.01,
        power: float = 0.9,
    ):
        super().__init__(peak, total_steps, warmup_steps, warmup_fraction)
        self.power = checks.positive("power", power)

    def decayed(self, step: Tensor) -> Tensor:
        """The polynomial."""
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        remaining = 1 - ops.clip((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        return self.peak * remaining**self.power

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {"power": self.power}
