"""Projectors and predictors."""

import keras

from pixpro_keras.batch import Tensor


def _torch_conv_initializers(fan_in: int) -> dict[str, keras.initializers.Initializer]:
    """PyTorch's default for convolutions: kernel and bias uniform in +-1/sqrt(fan_in).

    The release leaves its heads at that default; only its backbone is He-normal.
    """
    bound = fan_in**-0.5
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }


def pointwise_conv(filters: int, in_channels: int, **kwargs) -> keras.layers.Conv2D:
    """A biased 1x1 convolution with the initialisation of the release's heads."""
    return keras.layers.Conv2D(filters, 1, **_torch_conv_initializers(in_channels), **kwargs)


@keras.saving.register_keras_serializable("pixpro_keras")
class PointwiseMLP(keras.layers.Layer):
    """1x1 convolutions with batch norm and ReLU between them: `(B, h, w, C) -> (B, h, w, out_dim)`.

    With two layers this is the projector of PixPro: `conv1x1 -> batch norm -> ReLU -> conv1x1`.

    Args:
        hidden_dim: channels between the layers; 4096 in the release's projector.
        out_dim: output channels; 256 in the release.
        num_layers: number of convolutions, at least 1.
        bn_momentum: share of the old moving statistics kept in each step (torch's 0.1 is 0.9 here).
        synchronized: whether batch norm takes its statistics over all replicas.
    """

    def __init__(
        self,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        num_layers: int = 2,
        bn_momentum: float = 0.9,
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (
            ("hidden_dim", hidden_dim),
            ("out_dim", out_dim),
            ("num_layers", num_layers),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}.")
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.num_layers = num_layers
        self.bn_momentum = bn_momentum
        self.synchronized = synchronized
        self.layers: list[keras.layers.Layer] = []

    def build(self, input_shape: tuple) -> None:
        """Creates the layers for the input's channels."""
        for index in range(1, self.num_layers + 1):
            is_last = index == self.num_layers
            out_channels = self.out_dim if is_last else self.hidden_dim
            conv = pointwise_conv(
                out_channels, input_shape[-1], name=f"linear{index}", dtype=self.dtype_policy
            )
            self._append(conv, input_shape)
            input_shape = (*input_shape[:-1], out_channels)
            if not is_last:
                norm = keras.layers.BatchNormalization(
                    momentum=self.bn_momentum,
                    epsilon=1e-5,
                    synchronized=self.synchronized,
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
        x = inputs
        for layer in self.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                x = keras.ops.relu(layer(x, training=training))
            else:
                x = layer(x)
        return x

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Same map, `out_dim` channels."""
        return (*input_shape[:-1], self.out_dim)

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "num_layers": self.num_layers,
            "bn_momentum": self.bn_momentum,
            "synchronized": self.synchronized,
        }
