"""Rematerialization: activations are recomputed in the backward pass instead of stored."""

import contextlib
import itertools

import keras
import tensorflow as tf

from pixpro_keras.types import Tensor

# Minimum operations per segment; a residual block has eight or more. Shorter segments save little
# memory.
_SHORTEST = 8


class Remat:
    """Calls of a functional network in segments, of which only the outputs stay in memory.

    The activations within a segment, such as a residual block, are computed again for its gradient.
    Outputs, gradients and batch-norm statistics are those of the network itself.

    Args:
        network: functional model with one input and one output.

    Raises:
        ValueError: if the network has no place at which it can be cut, or draws random numbers, which
            would differ the second time.

    Example:
        ```python
        import keras

        from pixpro_keras import backbones
        from pixpro_keras.backbones.remat import Remat

        remat = Remat(backbones.build("resnet18_v1_5"))
        features = remat(keras.random.normal((1, 32, 32, 3)), training=True)
        ```
    """

    def __init__(self, network: keras.Model):
        for layer in network._flatten_layers():
            is_random = getattr(layer, "seed_generator", None) is not None
            if is_random and getattr(layer, "rate", 1.0) != 0.0:
                raise ValueError(
                    f"{network.name} cannot be recomputed: {layer.name} draws random numbers"
                )
        ends = [*_cuts(network), network.output]
        if len(ends) == 1:
            raise ValueError(f"{network.name} cannot be cut into segments")
        starts = [network.input, *ends]
        self.segments = [
            keras.Model(start, end, name=f"segment{number}")
            for number, (start, end) in enumerate(zip(starts, ends, strict=False))
        ]

    def __call__(self, images: Tensor, training: bool = False) -> Tensor:
        """Computes the output of the network for `(B, H, W, 3)` images."""
        x = images
        for segment in self.segments:
            x = _call(segment, x, training)
        return x


def _cuts(network: keras.Model) -> list[keras.KerasTensor]:
    """Tensors that are the only input of all later operations, at least `_SHORTEST` operations apart."""
    operations = network.operations
    last_use: dict[int, int] = {}
    try:
        for place, operation in enumerate(operations):
            for x in keras.tree.flatten(operation.input):
                last_use[id(x)] = place
    except (AttributeError, ValueError):  # An operation that is used twice has no single input.
        return []
    cuts, open_until, since = [], -1, 0
    for place, operation in enumerate(operations[:-1]):
        since += 1
        # Later operations use only this output.
        if open_until <= place and isinstance(operation.output, keras.KerasTensor):
            rest = len(operations) - 1 - place
            if min(since, rest) >= _SHORTEST:
                cuts.append(operation.output)
                since = 0
        for x in keras.tree.flatten(operation.output):
            open_until = max(open_until, last_use.get(id(x), place))
    return cuts


def _call(segment: keras.Model, x: Tensor, training: bool) -> Tensor:
    calls = itertools.count()

    def run(x: Tensor) -> Tensor:
        # The first call has updated the moving statistics; this scope discards further updates.
        is_second = next(calls) > 0
        with keras.StatelessScope() if is_second else contextlib.nullcontext():
            return segment(x, training=training)

    return tf.recompute_grad(run)(x)
