"""Projectors and predictors."""

import keras

from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D
from pixpro_keras.layers.initializers import he_normal_fan_in, torch_defaults
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["PointwiseMLP", "PooledMLP"]

_ACTIVATIONS = {
    "relu": keras.ops.relu,
    "gelu": lambda x: keras.ops.gelu(x, approximate=False),
}


def _apply(
    layers: list[keras.layers.Layer], x: Tensor, training: bool, activation: str = "relu"
) -> Tensor:
    """Applies layers and their batch norms, with an activation before each layer but the first."""
    activate = _ACTIVATIONS[activation]
    for index, layer in enumerate(layers):
        if isinstance(layer, keras.layers.BatchNormalization):
            x = layer(x, training=training)
        else:
            x = layer(activate(x) if index else x)
    return x


@keras.saving.register_keras_serializable("pixpro_keras")
class PointwiseMLP(keras.layers.Layer):
    """1x1 convolutions with batch norm and ReLU between them: `(B, h, w, C) -> (B, h, w, out_dim)`.

    With two layers this is the projector of PixPro: `conv1x1 -> batch norm -> ReLU -> conv1x1`.

    Args:
        hidden_dim: channels between the layers; 4096 in the release's projector.
        out_dim: output channels; 256 in the release's projector.
        num_layers: number of convolutions, at least 1.
        use_batch_norm: whether to use batch norm before each activation.
        activation: between the layers, `"relu"` or `"gelu"`.
        kernel_stddev: standard deviation of normal kernels with biases of 0; by default kernels and
            biases are drawn as PyTorch does.
        bn_momentum: fraction of the moving statistics that is kept in each step (torch's 0.1 is 0.9 here).

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import PointwiseMLP

        projector = PointwiseMLP(hidden_dim=64, out_dim=16)
        print(projector(keras.random.normal((2, 7, 7, 32))).shape)  # (2, 7, 7, 16)
        ```
    """

    def __init__(
        self,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        num_layers: int = 2,
        use_batch_norm: bool = True,
        activation: str = "relu",
        kernel_stddev: float | None = None,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = checks.at_least("hidden_dim", hidden_dim, 1)
        self.out_dim = checks.at_least("out_dim", out_dim, 1)
        self.num_layers = checks.at_least("num_layers", num_layers, 1)
        self.use_batch_norm = use_batch_norm
        self.activation = checks.one_of("activation", activation, _ACTIVATIONS)
        self.kernel_stddev = kernel_stddev
        self.bn_momentum = bn_momentum
        self.layers: list[keras.layers.Layer] = []

    def build(self, input_shape: tuple) -> None:
        """Creates the layers for the input's channels."""
        for index in range(1, self.num_layers + 1):
            is_last = index == self.num_layers
            out_channels = self.out_dim if is_last else self.hidden_dim
            initializers = torch_defaults(input_shape[-1])
            if self.kernel_stddev is not None:
                normal = keras.initializers.RandomNormal(stddev=self.kernel_stddev)
                initializers = {"kernel_initializer": normal}
            conv = Conv2D(
                out_channels, 1, name=f"linear{index}", dtype=self.dtype_policy, **initializers
            )
            self._append(conv, input_shape)
            input_shape = (*input_shape[:-1], out_channels)
            if not is_last and self.use_batch_norm:
                norm = BatchNormalization(
                    momentum=self.bn_momentum,
                    epsilon=1e-5,
                    name=f"bn{index}",
                    dtype=self.dtype_policy,
                )
                self._append(norm, input_shape)
        self.built = True

    def _append(self, layer: keras.layers.Layer, input_shape: tuple) -> None:
        layer.build(input_shape)
        self.layers.append(layer)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """`(B, h, w, C)` to `(B, h, w, out_dim)`."""
        return _apply(self.layers, inputs, training, self.activation)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Same map, `out_dim` channels."""
        return (*input_shape[:-1], self.out_dim)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "num_layers": self.num_layers,
            "use_batch_norm": self.use_batch_norm,
            "activation": self.activation,
            "kernel_stddev": self.kernel_stddev,
            "bn_momentum": self.bn_momentum,
        }


@keras.saving.register_keras_serializable("pixpro_keras")
class PooledMLP(keras.layers.Layer):
    """One vector per image: maps are averaged over their cells, then go through linear layers.

    `(B, h, w, C) -> (B, out_dim)`, or `(B, C) -> (B, out_dim)` after another head, with ReLU between
    the layers.

    Args:
        hidden_dim: channels between the layers.
        out_dim: output channels.
        num_layers: number of linear layers, at least 1.
        batch_norm: `"none"`; `"hidden"`: before each ReLU (BYOL); `"all"`: after the last layer too,
            there without offset (SimCLR). Linear layers have a bias only with `"none"`.
        initialization: `"torch"`, PyTorch's default, or `"he"`, He-normal kernels (fan in) and biases of 0
            (DenseCL).
        bn_momentum: fraction of the moving statistics that is kept in each step.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import PooledMLP

        projector = PooledMLP(hidden_dim=64, out_dim=16, batch_norm="hidden")
        print(projector(keras.random.normal((2, 7, 7, 32))).shape)  # (2, 16)
        ```
    """

    def __init__(
        self,
        hidden_dim: int = 2048,
        out_dim: int = 128,
        num_layers: int = 2,
        batch_norm: str = "none",
        initialization: str = "torch",
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = checks.at_least("hidden_dim", hidden_dim, 1)
        self.out_dim = checks.at_least("out_dim", out_dim, 1)
        self.num_layers = checks.at_least("num_layers", num_layers, 1)
        self.batch_norm = checks.one_of("batch_norm", batch_norm, ("none", "hidden", "all"))
        self.initialization = checks.one_of("initialization", initialization, ("torch", "he"))
        self.bn_momentum = bn_momentum
        self.layers: list[keras.layers.Layer] = []

    def build(self, input_shape: tuple) -> None:
        """Creates the layers for the input's channels."""
        channels = input_shape[-1]
        for index in range(1, self.num_layers + 1):
            is_last = index == self.num_layers
            has_norm = self.batch_norm == "all" or (self.batch_norm == "hidden" and not is_last)
            out_channels = self.out_dim if is_last else self.hidden_dim
            initializers = torch_defaults(channels)
            if self.initialization == "he":
                initializers = {"kernel_initializer": he_normal_fan_in()}
            dense = keras.layers.Dense(
                out_channels,
                use_bias=self.batch_norm == "none",
                name=f"linear{index}",
                dtype=self.dtype_policy,
                **initializers,
            )
            self._append(dense, channels)
            channels = out_channels
            if has_norm:
                norm = BatchNormalization(
                    momentum=self.bn_momentum,
                    epsilon=1e-5,
                    center=not is_last,
                    name=f"bn{index}",
                    dtype=self.dtype_policy,
                )
                self._append(norm, channels)
        self.built = True

    def _append(self, layer: keras.layers.Layer, channels: int) -> None:
        layer.build((None, channels))
        self.layers.append(layer)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """`(B, h, w, C)` or `(B, C)` to `(B, out_dim)`."""
        x = inputs
        if len(x.shape) == 4:
            x = keras.ops.mean(x, axis=(1, 2))
        return _apply(self.layers, x, training)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """`(B, out_dim)`."""
        return (input_shape[0], self.out_dim)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "num_layers": self.num_layers,
            "batch_norm": self.batch_norm,
            "initialization": self.initialization,
            "bn_momentum": self.bn_momentum,
        }
