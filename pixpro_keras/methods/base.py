"""What all pre-training methods share: the moving-average target."""

import keras
from keras import ops

from pixpro_keras.methods import ema
from pixpro_keras.task import Bounds, Task
from pixpro_keras.types import Tensor

__all__ = ["Bounds", "PretrainMethod"]


class PretrainMethod(Task):
    """A pre-training method: networks, loss terms and, where it has one, a target.

    A method with a moving-average target sets `self.momentum_pairs` to its (online, target) models.

    Args:
        total_steps: optimizer steps of the whole run, for the target's momentum; at least 1.
        base_momentum: the target's momentum in the first step, in [0, 1]; it rises to 1, or stays
            where a class sets `is_momentum_rising` to False.
        **kwargs: of `Task`.
    """

    is_momentum_rising = True
    # What the batch must hold.
    num_views = 2
    uses_jigsaw = False
    uses_labels = False
    uses_coordinates = False

    def __init__(self, total_steps: int, base_momentum: float = 0.99, **kwargs):
        super().__init__(**kwargs)
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be at least 1. Received: {total_steps}.")
        if not 0 <= base_momentum <= 1:
            raise ValueError(
                f"`base_momentum` must be in [0, 1]. Received: base_momentum={base_momentum}."
            )
        self.total_steps = total_steps
        self.base_momentum = base_momentum
        self.momentum_pairs: list[tuple[keras.Model, keras.Model]] = []

    def before_step(self) -> dict[str, Tensor]:
        """Moves the target, before its forward pass as in the release."""
        if not self.momentum_pairs:
            return {}
        step_size = ops.cast(1.0 - self.base_momentum, "float32")
        if self.is_momentum_rising:
            step_size = ema.momentum_step(self.step, self.total_steps, self.base_momentum)
        for online, target in self.momentum_pairs:
            ema.update(online, target, step_size)
        return {"target_momentum": 1.0 - step_size}
