"""What all pre-training methods share: the only `train_step`."""

from collections.abc import Mapping
from types import MappingProxyType

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.batch import Batch, Tensor
from pixpro_keras.methods import ema

# Lowest and highest value of a loss; None is unbounded.
Bounds = tuple[float | None, float | None]


class PretrainMethod(keras.Model):
    """A self-supervised method: networks and loss terms, trained by one traced step.

    A subclass builds its networks in `__init__`, lists its loss terms in `loss_bounds` and returns
    them from `call`, with whatever else is worth watching. Gradients, loss scaling, accumulation,
    replicas and the moving average are here.

    A method with a moving-average target sets `self.momentum_pairs` to its (online, target) models.

    Args:
        total_steps: optimizer steps of the whole run, for the target's momentum; at least 1.
        base_momentum: the target's momentum in the first step, in [0, 1]; it rises to 1, or stays
            where a class sets `is_momentum_rising` to False.
        accumulate_steps: parts into which each replica's batch is cut. The gradients of the parts
            are averaged and applied once, which saves memory; batch-norm statistics are per part.
    """

    # Name of each loss term -> what it can be; a class's or, set in `__init__`, an instance's.
    loss_bounds: Mapping[str, Bounds] = MappingProxyType({})
    is_momentum_rising = True

    def __init__(
        self,
        total_steps: int,
        base_momentum: float = 0.99,
        accumulate_steps: int = 1,
        **kwargs,
    ):
        # Coordinates must not be cast to the compute dtype: neighbouring cells would coincide.
        super().__init__(autocast=False, **kwargs)
        if total_steps < 1:
            raise ValueError(f"`total_steps` must be at least 1. Received: {total_steps}.")
        if not 0 <= base_momentum <= 1:
            raise ValueError(
                f"`base_momentum` must be in [0, 1]. Received: base_momentum={base_momentum}."
            )
        if accumulate_steps < 1:
            raise ValueError(
                "`accumulate_steps` must be at least 1. "
                f"Received: accumulate_steps={accumulate_steps}."
            )
        self.total_steps = total_steps
        self.base_momentum = base_momentum
        self.accumulate_steps = accumulate_steps
        self.momentum_pairs: list[tuple[keras.Model, keras.Model]] = []
        # Position of the run: the next batch, the target's momentum. It counts batches, while
        # `optimizer.iterations` counts updates, of which mixed_float16 may skip some.
        self.step = self.add_weight(
            name="step", shape=(), dtype="int64", trainable=False, initializer="zeros"
        )
        self.built = True

    def steps_done(self) -> int:
        """Steps since the run's beginning; waits for the accelerator."""
        return int(ops.convert_to_numpy(self.step))

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """Loss terms, weighted, under the names of `loss_bounds`; other entries are watched only.

        Args:
            batch: see `pixpro_keras.batch`.
            training: whether batch norm normalises with the statistics of the batch.

        Returns:
            Scalars by name.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def train_step(self, data: Batch) -> dict[str, Tensor]:
        """One update of all weights. In replica context.

        Args:
            data: this replica's part of the batch.

        Returns:
            Scalars by name, averaged over the replicas: `loss`, what `call` returns,
            `learning_rate`, `updates` (number applied so far), and `target_momentum` where the
            method has a target.
        """
        logs = {"learning_rate": ops.cast(self.optimizer.learning_rate, "float32")}
        if self.momentum_pairs:
            # Before the target's forward pass, as in the release.
            step_size = ops.cast(1.0 - self.base_momentum, "float32")
            if self.is_momentum_rising:
                step_size = ema.momentum_step(self.step, self.total_steps, self.base_momentum)
            for online, target in self.momentum_pairs:
                ema.update(online, target, step_size)
            logs["target_momentum"] = 1.0 - step_size
        gradients, outputs = self._gradients(data)
        if isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer):
            gradients = _share_overflow(gradients)
        self.optimizer.apply(gradients, self.trainable_variables)
        self.step.assign_add(1)
        logs["updates"] = ops.cast(self.optimizer.iterations, "float32")
        return _mean_over_replicas(outputs) | logs

    def _gradients(self, batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Gradients of the global batch's mean loss (this replica's share of them), and outputs."""
        parts = self.accumulate_steps
        total: list[Tensor] = []
        outputs: dict[str, Tensor] = {}
        for part in range(parts):
            piece = {key: _part(value, part, parts) for key, value in batch.items()}
            # One part after the other, else their activations would be in memory together.
            with tf.control_dependencies(total):
                gradients, new_outputs = self._gradients_of_part(piece)
            total = [a + b for a, b in zip(total, gradients, strict=True)] if total else gradients
            outputs = {
                name: outputs[name] + value if outputs else value
                for name, value in new_outputs.items()
            }
        return total, {name: value / parts for name, value in outputs.items()}

    def _gradients_of_part(self, batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        with tf.GradientTape() as tape:
            outputs = self(batch, training=True)
            loss = sum(outputs[name] for name in self.loss_bounds)
            # The optimizer adds up the replicas' gradients.
            divisor = tf.distribute.get_strategy().num_replicas_in_sync * self.accumulate_steps
            scaled = self.optimizer.scale_loss(loss / divisor)
        gradients = tape.gradient(scaled, [v.value for v in self.trainable_variables])
        return gradients, outputs | {"loss": loss}


def positive_temperature(temperature: float) -> float:
    """The temperature, if it is positive.

    Raises:
        ValueError: if not.
    """
    if temperature <= 0:
        raise ValueError(f"`temperature` must be positive. Received: temperature={temperature}.")
    return temperature


def _part(value: Tensor, part: int, parts: int) -> Tensor:
    size = value.shape[0] // parts
    return value[part * size : (part + 1) * size]


def _share_overflow(gradients: list[Tensor]) -> list[Tensor]:
    """Makes all gradients infinite on every replica when one is not finite on any.

    Keras's loss-scale optimizer looks at the first replica only, before the gradients are added up:
    an overflow elsewhere would go into the weights instead of skipping the step.
    """
    overflow = ops.cast(False, "float32")
    for gradient in gradients:
        bad = ops.logical_not(ops.all(ops.isfinite(gradient)))
        overflow = ops.maximum(overflow, ops.cast(bad, "float32"))
    replica = tf.distribute.get_replica_context()
    overflow = replica.all_reduce(tf.distribute.ReduceOp.SUM, overflow)
    infinity = float("inf")
    return [ops.where(overflow > 0, ops.cast(infinity, g.dtype), g) for g in gradients]


def _mean_over_replicas(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    names = list(scalars)
    stacked = ops.stack([ops.cast(scalars[name], "float32") for name in names])
    replica = tf.distribute.get_replica_context()
    stacked = replica.all_reduce(tf.distribute.ReduceOp.MEAN, stacked)
    return {name: stacked[index] for index, name in enumerate(names)}
