"""SlotCon's heads: grouping of pixels by prototypes, and the predictor of slots."""

import keras
from keras import ops

from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.layers.masked_batch_norm import MaskedBatchNorm
from pixpro_keras.ops import l2_normalize, to_pixels
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["SlotHead", "SlotPredictor"]

_EPSILON = 1e-6  # Added to assignments, so that an empty slot does not divide by 0.
# torch's `trunc_normal_` cuts at -2 and 2, which is 100 standard deviations: the kernels are normal.
_KERNEL_STDDEV = 0.02


@keras.saving.register_keras_serializable("pixpro_keras")
class SlotHead(keras.layers.Layer):
    """Projects a map and averages its cells by prototype.

    With cells x and prototypes p: scores `s(i, k) = cos(x_i, p_k)`, assignments
    `a(i, k) = softmax_k(s(i, k) / temperature) + 1e-6`, slots `sum_i a(i, k) x_i / sum_i a(i, k)`.

    Args:
        hidden_dim: hidden channels of the projector, which has three layers and GELU. Its kernels are
            normal with standard deviation 0.02.
        out_dim: channels of cells, prototypes and slots.
        num_slots: prototypes, K.
        temperature: divisor of the assignment's scores, positive.
        bn_momentum: fraction of the moving statistics that is kept in each step.

    Raises:
        ValueError: if there is no slot or the temperature is not positive.

    Reference:
        Wen et al., NeurIPS 2022, arXiv:2205.15288, section 3.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import SlotHead

        head = SlotHead(hidden_dim=64, out_dim=16, num_slots=8)
        outputs = head(keras.random.normal((2, 7, 7, 32)))
        print(outputs["scores"].shape, outputs["slots"].shape)  # (2, 7, 7, 8) (2, 8, 16)
        ```
    """

    def __init__(
        self,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        num_slots: int = 2048,
        temperature: float = 0.07,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.num_slots = checks.at_least("num_slots", num_slots, 1)
        self.temperature = checks.positive("temperature", temperature)
        self.bn_momentum = bn_momentum
        self.projector = PointwiseMLP(
            hidden_dim,
            out_dim,
            num_layers=3,
            activation="gelu",
            kernel_stddev=_KERNEL_STDDEV,
            bn_momentum=bn_momentum,
            name="projector",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: tuple) -> None:
        """Creates projector and prototypes."""
        self.projector.build(input_shape)
        self.prototypes = self.add_weight(
            name="prototypes",
            shape=(self.num_slots, self.out_dim),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> dict[str, Tensor]:
        """`(B, h, w, C)` to `projected` `(B, h, w, D)`, `scores` `(B, h, w, K)`, `slots` `(B, K, D)`."""
        projected = self.projector(inputs, training=training)
        cells = ops.cast(to_pixels(projected), "float32")
        scores = ops.matmul(l2_normalize(cells), ops.transpose(l2_normalize(self.prototypes)))
        assignment = ops.softmax(scores / self.temperature, axis=2) + _EPSILON  # (B, N, K)
        shares = assignment / ops.sum(assignment, axis=1, keepdims=True)
        return {
            "projected": projected,
            "scores": ops.reshape(scores, (-1, *projected.shape[1:3], self.num_slots)),
            "slots": ops.einsum("bnk,bnd->bkd", shares, cells),
        }

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "num_slots": self.num_slots,
            "temperature": self.temperature,
            "bn_momentum": self.bn_momentum,
        }


@keras.saving.register_keras_serializable("pixpro_keras")
class SlotPredictor(keras.layers.Layer):
    """Three linear layers with batch norm and GELU between them, for the slots with a mask of 1.

    Kernels are normal with standard deviation 0.02, biases 0.

    Args:
        hidden_dim: hidden channels.
        out_dim: channels of the slots.
        bn_momentum: fraction of the moving statistics that is kept in each step.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import SlotPredictor

        predictor = SlotPredictor(hidden_dim=64, out_dim=16)
        print(predictor(keras.random.normal((2, 8, 16)), keras.ops.ones((2, 8))).shape)  # (2, 8, 16)
        ```
    """

    def __init__(
        self,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.out_dim = out_dim
        self.bn_momentum = bn_momentum
        self.linears: list[keras.layers.Dense] = []
        self.norms: list[MaskedBatchNorm] = []
        channels = out_dim
        for number, width in enumerate((hidden_dim, hidden_dim, out_dim), start=1):
            linear = keras.layers.Dense(
                width,
                kernel_initializer=keras.initializers.RandomNormal(stddev=_KERNEL_STDDEV),
                name=f"linear{number}",
                dtype=self.dtype_policy,
            )
            linear.build((None, None, channels))
            self.linears.append(linear)
            channels = width
        for number in (1, 2):
            norm = MaskedBatchNorm(
                bn_momentum,
                name=f"bn{number}",
                dtype=self.dtype_policy,
            )
            norm.build((None, None, hidden_dim))
            self.norms.append(norm)
        self.built = True

    def call(self, slots: Tensor, mask: Tensor, training: bool = False) -> Tensor:
        """`(B, M, C)` slots, of which those with a mask `(B, M)` of 1 count, to `(B, M, C)`."""
        x = self.linears[0](slots)
        for norm, linear in zip(self.norms, self.linears[1:], strict=True):
            x = linear(ops.gelu(norm(x, mask, training=training), approximate=False))
        return x

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "hidden_dim": self.hidden_dim,
            "out_dim": self.out_dim,
            "bn_momentum": self.bn_momentum,
        }
