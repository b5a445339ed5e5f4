"""The only `train_step`, for everything that is trained here."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.backbones.dtype_policies import global_policy
from pixpro_keras.ops import cross_replica_mean
from pixpro_keras.types import Batch, Tensor
from pixpro_keras.utils import checks

__all__ = ["Bounds", "Task"]

# Lowest and highest value of a loss; None is unbounded.
Bounds = tuple[float | None, float | None]


class Task(keras.Model):
    """Networks and loss terms, trained by one traced step: a pre-training method or a transfer task.

    A subclass builds its networks in `__init__`, lists its loss terms in `loss_bounds` and returns
    them from `call`, with other metrics. Gradients, loss scaling, accumulation, replicas and the
    skipping of steps that are not finite are here.

    Args:
        accumulate_steps: parts into which each replica's batch is cut, at least 1. The gradients of
            the parts are averaged and applied once, which saves memory; batch-norm statistics and the
            negatives of a batch are per part.
        device_transform: function of a batch to the batch that is trained on, for augmentation that
            the input leaves to the accelerator; part of the traced step. A config cannot hold a
            function: `get_config` leaves it out, and it must be passed again when the task is rebuilt.
        **kwargs: arguments of `keras.Model`.

    Raises:
        ValueError: if `accumulate_steps` is less than 1.

    Example:
        ```python
        import keras
        from pixpro_keras.task import Task

        class Regression(Task):
            loss_bounds = {"error": (0.0, None)}

            def __init__(self, **kwargs):
                super().__init__(**kwargs)
                self.linear = keras.layers.Dense(1)
                self.linear.build((None, 3))

            def call(self, batch, training=False):
                error = self.linear(batch["x"]) - batch["y"]
                return {"error": keras.ops.mean(error**2)}

        task = Regression(accumulate_steps=2)
        task.compile(keras.optimizers.SGD(0.1))
        task.optimizer.build(task.trainable_variables)
        logs = task.train_step({"x": keras.ops.ones((4, 3)), "y": keras.ops.ones((4, 1))})
        print(logs["error"], logs["step"])
        ```
    """

    # Name of each loss term -> lowest and highest value. Class attribute, or set in `__init__`.
    loss_bounds: Mapping[str, Bounds] = MappingProxyType({})

    def __init__(
        self,
        accumulate_steps: int = 1,
        device_transform: Callable[[Batch], Batch] | None = None,
        **kwargs,
    ):
        # Coordinates must not be cast to the compute dtype: neighboring cells would coincide.
        super().__init__(autocast=False, **kwargs)
        self.accumulate_steps = checks.at_least("accumulate_steps", accumulate_steps, 1)
        self.device_transform = device_transform
        # Steps done, which determine the next batch and the target's momentum. `optimizer.iterations`
        # counts updates instead, of which mixed_float16 may skip some.
        self.step = self.add_weight(
            name="step", shape=(), dtype="int64", trainable=False, initializer="zeros"
        )
        self._update_factors: dict[int, float] = {}  # By the variable's `id`.
        self.built = True

    def scale_updates(self, variables: Sequence[keras.Variable], factor: float) -> None:
        """Multiplies every update of some weights, their decay included, as a smaller learning rate would.

        Args:
            variables: trainable; often those of a pre-trained backbone.
            factor: greater than 0; replaces an earlier one of the same weights.

        Raises:
            ValueError: if the factor is not greater than 0.
        """
        checks.positive("factor", factor)
        self._update_factors |= {id(variable): factor for variable in variables}

    @property
    def seeds(self) -> list[keras.Variable]:
        """States of the random numbers of layers such as dropout, which `weights` leaves out."""
        return [v for v in self.variables if v.path.endswith("seed_generator_state")]

    def steps_done(self) -> int:
        """Steps since the run's beginning; waits for the accelerator."""
        return int(ops.convert_to_numpy(self.step))

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments but for `device_transform`."""
        return super().get_config() | {"accumulate_steps": self.accumulate_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Task":
        """A new task with the same arguments and precision, and weights of its own."""
        with global_policy(keras.dtype_policies.get(config.get("dtype"))):  # of the heads
            if "backbone" in config:
                backbone = keras.saving.deserialize_keras_object(config["backbone"])
                config = config | {"backbone": backbone}
            return cls(**config)

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """Loss terms, weighted, under the names of `loss_bounds`; other entries are metrics.

        Args:
            batch: see `pixpro_keras.types`.
            training: whether batch norm normalizes with the statistics of the batch.

        Returns:
            Scalars by name.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `call`.")

    def check_batch(self, batch: Batch) -> None:
        """Raises a ValueError if a batch lacks what a training step needs; called when the step is traced."""
        if not isinstance(batch, Mapping):
            raise ValueError(
                f"a batch of {type(self).__name__} must be a dict of tensors, such as those of "
                f"`pixpro_keras.types`. Received: a {type(batch).__name__}."
            )

    def require_keys(self, batch: Batch, *keys: str) -> None:
        """Raises a ValueError if a batch lacks one of some entries."""
        if missing := [key for key in keys if key not in batch]:
            raise ValueError(
                f"a batch of {type(self).__name__} must have the keys {', '.join(keys)}. Received: "
                f"{', '.join(batch)}, without {', '.join(missing)}."
            )

    def passes(self, batch: Batch) -> list[Callable[[], dict[str, Tensor]]]:
        """Parts of `call` in training, whose outputs add up to those of `call`.

        The gradients of one are computed before the next one's forward pass, so that only the
        activations of one are in memory at a time. The loss of each must depend on all trainable weights.
        """
        return [lambda: self(batch, training=True)]

    def before_step(self, step: Tensor) -> dict[str, Tensor]:
        """Changes weights before a step's forward pass; returns metrics by name.

        Args:
            step: scalar int64, steps done. It waits for the batch, as all that changes weights must: at the
                end of data of unknown size `fit` begins a step without a batch.
        """
        return {}

    @tf.autograph.experimental.do_not_convert  # Not needed here; AutoGraph takes a third of the tracing time.
    def train_step(self, data: Batch) -> dict[str, Tensor]:
        """One update of all weights. In replica context.

        A step whose loss or gradients are not finite on any replica is skipped: it is counted and the
        target moves, but all other weights stay as they were. The device decides this, not the host.

        Args:
            data: this replica's part of the batch.

        Returns:
            Scalars by name, averaged over the replicas: `loss`, what `call` returns,
            `learning_rate`, `step` (steps done, this one included), `updates` (number applied so
            far), `bad_steps` (1 if this one was skipped, unless a smaller loss scale may help),
            and what `before_step` returns.
        """
        if self.device_transform is not None:
            data = self.device_transform(data)
        self.check_batch(data)
        if self._has_loss_scale and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)  # The scale is one of its variables.
        logs = {"learning_rate": ops.cast(self.optimizer.learning_rate, "float32")}
        with _after([*data.values()]):
            step = tf.identity(self.step.value)
        logs |= self.before_step(step)
        # State that the forward pass changes: statistics, queues, centers.
        state = [v.value for v in self.weights if not v.trainable and v is not self.step]
        before = [tf.identity(value) for value in state]
        gradients, outputs = self._gradients(data)
        is_loss_nonfinite, is_skipped = _nonfinite_anywhere([outputs["loss"]], gradients)
        nonfinite_steps = is_skipped
        if self._has_loss_scale:
            is_scaled_down = self.optimizer.dynamic_scale <= 1
            nonfinite_steps = ops.where(is_scaled_down, is_skipped, is_loss_nonfinite)
        self._update(is_skipped > 0, gradients, state, before)
        with _after([is_skipped]):
            self.step.assign_add(1)
        logs["step"] = tf.identity(self.step.value)
        logs["bad_steps"] = nonfinite_steps
        logs["updates"] = ops.cast(self.optimizer.iterations, "float32")
        return _mean_over_replicas(outputs) | logs

    def compile(self, optimizer="rmsprop", loss=None, *, metrics=None, **kwargs):
        """Sets the optimizer as `keras.Model.compile` does; losses and metrics are those of `call`.

        Raises:
            ValueError: if others are given, which nothing would compute.
        """
        ignored = [kwargs.pop(name, None) for name in ("loss_weights", "weighted_metrics")]
        if loss is not None or metrics or any(ignored):
            raise ValueError(
                f"`compile` of {type(self).__name__} takes no loss, loss weights or metrics: `call` returns "
                "them, weighted."
            )
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded task, which Keras does not do for classes with a `compile` of their own."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """Trains as `keras.Model.fit` does, without validation data unless a class has a `test_step`."""
        is_validated = kwargs.get("validation_data") is not None or kwargs.get("validation_split")
        if is_validated and type(self).test_step is Task.test_step:
            self.test_step({})  # Now, not after the first epoch.
        return super().fit(*args, **kwargs)

    def test_step(self, data: Batch) -> dict[str, Tensor]:
        """Refuses `evaluate` and `validation_data`, since there is no validation loss."""
        raise ValueError(
            f"{type(self).__name__} has no validation loss: call it with `training=False`, or measure the "
            "frozen features, for instance by a `pixpro_keras.evaluation.Monitor` in a callback."
        )

    def predict_step(self, data: Batch) -> dict[str, Tensor]:
        """Refuses `predict`: the outputs of a batch are losses, not one prediction for each image."""
        raise ValueError(
            f"{type(self).__name__} has no predictions: call it with a batch for its losses, or one of its "
            "networks, such as the `encoder.backbone` of a pre-training, with images."
        )

    @property
    def _has_loss_scale(self) -> bool:
        return isinstance(self.optimizer, keras.mixed_precision.LossScaleOptimizer)

    def _update(
        self, is_skipped: Tensor, gradients: list[Tensor], state: list, before: list[Tensor]
    ) -> None:
        """Applies the gradients, or restores the state if the step is skipped."""
        slowed = [v for v in self.trainable_variables if id(v) in self._update_factors]
        weights_before = [tf.identity(v.value) for v in slowed]
        is_scaled = self._has_loss_scale
        if is_scaled:
            # It skips steps itself and lowers its scale, but checks the first replica only.
            infinity = float("inf")
            gradients = [ops.where(is_skipped, ops.cast(infinity, g.dtype), g) for g in gradients]
            self.optimizer.apply(gradients, self.trainable_variables)

        def decide(strategy, is_skipped, gradients, before, weights_before):
            # In cross-replica context under strategies that merge calls, else in replica context.
            in_replica = not tf.distribute.in_cross_replica_context()

            def restore():
                for variable, value in zip(state, before, strict=True):
                    strategy.extended.update(
                        variable, lambda v, x: v.assign(x), args=(value,), group=False
                    )

            def apply():
                arguments = (gradients, self.trainable_variables)
                if in_replica and not is_scaled:
                    self.optimizer.apply(*arguments)
                elif not is_scaled:
                    strategy.extended.call_for_each_replica(self.optimizer.apply, args=arguments)
                for variable, value in zip(slowed, weights_before, strict=True):
                    factor = self._update_factors[id(variable)]
                    strategy.extended.update(
                        variable.value,
                        lambda v, old, factor: v.assign(old + factor * (v - old)),
                        args=(value, factor),
                        group=False,
                    )

            if not in_replica:
                is_skipped = strategy.experimental_local_results(is_skipped)[0]
            tf.cond(is_skipped, restore, apply)

        # Gradients cannot be summed over replicas inside a branch in replica context.
        tf.__internal__.distribute.interim.maybe_merge_call(
            decide, tf.distribute.get_strategy(), is_skipped, gradients, before, weights_before
        )

    def _gradients(self, batch: Batch) -> tuple[list[Tensor], dict[str, Tensor]]:
        """This replica's share of the gradients of the mean loss, and the outputs."""
        parts = self.accumulate_steps
        _check_sizes(batch, parts)
        total: list[Tensor] = []
        outputs: dict[str, Tensor] = {}
        for part in range(parts):
            piece = {key: _part(value, part, parts) for key, value in batch.items()}
            with _after(total):
                passes = self.passes(piece)
            for run in passes:
                with _after(total):
                    gradients, new_outputs = self._gradients_of_pass(run)
                if total:
                    gradients = [a + b for a, b in zip(total, gradients, strict=True)]
                    new_outputs = {name: outputs[name] + x for name, x in new_outputs.items()}
                total, outputs = gradients, new_outputs
        return total, {name: value / parts for name, value in outputs.items()}

    def _gradients_of_pass(
        self, run: Callable[[], dict[str, Tensor]]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        with tf.GradientTape() as tape:
            outputs = run()
            # Additions would be reordered by TensorFlow, in each process in another way.
            terms = [ops.cast(outputs[name], "float32") for name in self.loss_bounds]
            loss = tf.reduce_sum(tf.stack(terms))
            # The optimizer sums gradients over replicas.
            divisor = tf.distribute.get_strategy().num_replicas_in_sync * self.accumulate_steps
            scaled = self.optimizer.scale_loss(loss / divisor)
        gradients = tape.gradient(scaled, [v.value for v in self.trainable_variables])
        pairs = zip(self.trainable_variables, gradients, strict=True)
        unused = [variable.path for variable, gradient in pairs if gradient is None]
        if unused:
            raise ValueError(
                f"The loss of {type(self).__name__} does not depend on its trainable weights "
                f"{', '.join(unused[:3])}{', ...' if len(unused) > 3 else ''}."
            )
        return gradients, outputs | {"loss": loss}


def _after(tensors: list[Tensor]) -> contextlib.AbstractContextManager:
    """Context whose operations wait for all `tensors`, so that only one pass's activations are in memory.

    They wait for a single grouped operation. Otherwise each constant waits for each tensor, which makes
    181,000 of the 207,000 edges of ResNet-50's graph.
    """
    return tf.control_dependencies([tf.group(*tensors)] if tensors else [])


def _check_sizes(batch: Batch, parts: int) -> None:
    """Raises a ValueError unless all entries have as many rows, which can be cut into equal parts."""
    sizes = {key: value.shape[0] for key, value in batch.items()}
    if None in sizes.values():
        raise ValueError(
            "batches must have a static size: `Dataset.batch(..., drop_remainder=True)` gives it, the "
            "`output_signature` of `Dataset.from_generator`, also for the batches of a PyDataset, and arrays "
            f"of a multiple of `batch_size` rows. Received: sizes of {sizes}."
        )
    if len({*sizes.values()}) > 1:
        raise ValueError(
            f"all entries of a batch must have as many rows as it has images. Received: sizes of {sizes}."
        )
    if any(size % parts or size < parts for size in sizes.values()):
        raise ValueError(
            "`accumulate_steps` must divide the batch of each replica. Received: "
            f"accumulate_steps={parts}, sizes of {sizes}."
        )


def _part(value: Tensor, part: int, parts: int) -> Tensor:
    size = value.shape[0] // parts
    return value[part * size : (part + 1) * size]


def _nonfinite_anywhere(*groups: list[Tensor]) -> list[Tensor]:
    """1 for each group if it or an earlier group has a non-finite value on any replica, else 0.

    All replicas must skip the same steps; otherwise their weights would differ.
    """
    nonfinite = [
        ops.cast(
            ops.logical_not(ops.all(ops.stack([ops.all(ops.isfinite(x)) for x in group]))),
            "float32",
        )
        for group in groups
    ]
    replica = tf.distribute.get_replica_context()
    total = replica.all_reduce(tf.distribute.ReduceOp.SUM, ops.cumsum(ops.stack(nonfinite)))
    return tf.unstack(ops.minimum(total, 1.0))


def _mean_over_replicas(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    names = list(scalars)
    stacked = ops.stack([ops.cast(scalars[name], "float32") for name in names])
    stacked = cross_replica_mean(stacked)
    return {name: stacked[index] for index, name in enumerate(names)}
