"""The feature pyramid network (FPN)."""

import keras
from keras import ops

from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["FPN"]


@keras.saving.register_keras_serializable("pixpro_keras")
class FPN(keras.layers.Layer):
    """A pyramid of maps of the same width, from coarse to fine.

    From the highest map down: `m5 = lateral(c5)`, `m4 = lateral(c4) + up(m5)`, ...; then
    `p = output(m)` at each level, and `p6` is every second cell of `p5`. Lateral convolutions are
    1x1, output convolutions 3x3, each with batch norm or a bias and without activation; up is
    nearest-neighbor. It begins at whichever map it is built for, c2 or c3.

    Args:
        num_channels: width of all maps.
        use_batch_norm: whether batch norm follows each convolution.
        bn_momentum: fraction of the moving statistics that is kept in each step.

    Raises:
        ValueError: if `num_channels` is less than 1.

    Reference:
        Lin et al., CVPR 2017, arXiv:1612.03144, as detectron2 builds it.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import FPN

        maps = {f"c{k}": keras.ops.zeros((1, 64 >> k, 64 >> k, 8 * k)) for k in (3, 4, 5)}
        pyramid = FPN(num_channels=16)(maps)
        print({name: x.shape[1] for name, x in pyramid.items()})  # p3: 8, p4: 4, p5: 2, p6: 1
        ```
    """

    def __init__(
        self,
        num_channels: int = 256,
        use_batch_norm: bool = True,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_channels = checks.at_least("num_channels", num_channels, 1)
        self.use_batch_norm = use_batch_norm
        self.bn_momentum = bn_momentum
        self.levels: list[int] = []
        self.laterals: dict[str, list[keras.layers.Layer]] = {}
        self.outputs: dict[str, list[keras.layers.Layer]] = {}

    def build(self, input_shape: dict[str, tuple]) -> None:
        """Creates the convolutions for the maps `c2` or `c3` to `c5`."""
        names = sorted(input_shape)
        if names not in (["c2", "c3", "c4", "c5"], ["c3", "c4", "c5"]):
            raise ValueError(f"An FPN takes c2 or c3 to c5. Received: {', '.join(input_shape)}.")
        self.levels = [int(name[1:]) for name in names]
        for level in self.levels:
            shape = tuple(input_shape[f"c{level}"])
            self.laterals[f"p{level}"] = self._convolution(f"lateral{level}", 1, shape)
            shape = (*shape[:-1], self.num_channels)
            self.outputs[f"p{level}"] = self._convolution(f"output{level}", 3, shape)
        self.built = True

    def _convolution(self, name: str, size: int, shape: tuple) -> list[keras.layers.Layer]:
        convolution = Conv2D(
            self.num_channels,
            size,
            padding="same",
            use_bias=not self.use_batch_norm,
            kernel_initializer=keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
            name=name,
            dtype=self.dtype_policy,
        )
        convolution.build(shape)
        if not self.use_batch_norm:
            return [convolution]
        norm = BatchNormalization(
            momentum=self.bn_momentum,
            epsilon=1e-5,
            name=f"{name}_bn",
            dtype=self.dtype_policy,
        )
        norm.build((*shape[:-1], self.num_channels))
        return [convolution, norm]

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """Maps `(B, h, w, C)` by the names `c2` or `c3` to `c5`, to maps `p2` or `p3` to `p6`.

        Raises:
            ValueError: if a map's sides are neither those of the map above nor twice as long.
        """
        outputs = {}
        above = None
        for level in reversed(self.levels):
            name = f"p{level}"
            x = _apply(self.laterals[name], inputs[f"c{level}"], training)
            above = x if above is None else x + _enlarge(above, x, name)
            outputs[name] = _apply(self.outputs[name], above, training)
        outputs["p6"] = outputs["p5"][:, ::2, ::2]
        return {name: outputs[name] for name in sorted(outputs)}

    def compute_output_shape(self, input_shape: dict[str, tuple]) -> dict[str, tuple]:
        """Shapes by name."""
        maps = {f"p{name[1:]}": shape for name, shape in input_shape.items()}
        batch, height, width, _ = maps["p5"]
        half = [None if side is None else (side + 1) // 2 for side in (height, width)]
        maps["p6"] = (batch, *half, None)
        return {name: (*maps[name][:-1], self.num_channels) for name in sorted(maps)}

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "num_channels": self.num_channels,
            "use_batch_norm": self.use_batch_norm,
            "bn_momentum": self.bn_momentum,
        }


def _apply(layers: list[keras.layers.Layer], x: Tensor, training: bool) -> Tensor:
    for layer in layers:
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        x = layer(x, training=training) if is_norm else layer(x)
    return x


def _enlarge(above: Tensor, below: Tensor, name: str) -> Tensor:
    """Upsamples the higher map to the size of the lower one; equal sizes (dilated stages) stay."""
    coarse, fine = above.shape[1:3], below.shape[1:3]
    if None not in (*coarse, *fine):
        if coarse == fine:
            return above
        if tuple(2 * side for side in coarse) != tuple(fine):
            raise ValueError(
                f"{name} has {fine[0]} x {fine[1]} cells below {coarse[0]} x {coarse[1]}: the image's "
                "sides must be multiples of 32 pixels."
            )
    return ops.repeat(ops.repeat(above, 2, axis=1), 2, axis=2)
