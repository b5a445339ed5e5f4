"""The pixel propagation module (PPM)."""

import keras
from keras import ops

from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.ops import l2_normalize, map_rows, to_pixels
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

# Pixels that are compared with all others at the same time: more would make their similarities the
# largest tensors of a step.
MAX_ROWS = 1024


def similarity(pixels: Tensor, gamma: float, others: Tensor | None = None) -> Tensor:
    """`s(i, j) = max(cos(x_i, x_j), 0) ** gamma` between the pixels of each image.

    Args:
        pixels: `(B, R, C)`.
        gamma: sharpness, positive.
        others: `(B, N, C)`; None: `pixels` themselves.

    Returns:
        `(B, R, N)` float32 in [0, 1].
    """
    unit = l2_normalize(pixels)
    other = unit if others is None else l2_normalize(others)
    cosine = ops.relu(ops.einsum("bic,bjc->bij", unit, other))
    if gamma == 2:
        return ops.square(cosine)
    # Below 1 the power has an infinite slope at 0; the release moves it away by as much.
    return ops.power(cosine + 1e-6 if gamma < 1 else cosine, gamma)


@keras.saving.register_keras_serializable("pixpro_keras")
class PixelPropagation(keras.layers.Layer):
    """Smooths each pixel's feature with those of similar pixels of the same image.

    `y_i = sum_j max(cos(x_i, x_j), 0)^gamma * g(x_j)`, without softmax or division by the sum.
    g is `num_transform_layers` 1x1 convolutions with batch norm and ReLU between them, followed, as
    in the release but not in the paper, by scaling each `g(x_j)` to unit length.

    Args:
        gamma: sharpness of the similarity, positive; the paper's is 2.
        num_transform_layers: 0 (g is the identity) to 3; the paper's is 1.
        bn_momentum: share of the old moving statistics kept in each step.
        synchronized: whether batch norm takes its statistics over all replicas.

    Raises:
        ValueError: if `gamma` is not positive or `num_transform_layers` not in 0..3.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, equation 3.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        num_transform_layers: int = 1,
        bn_momentum: float = 0.9,
        synchronized: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_transform_layers not in range(4):
            raise ValueError(
                "`num_transform_layers` must be 0, 1, 2 or 3. "
                f"Received: num_transform_layers={num_transform_layers}."
            )
        self.gamma = checks.positive("gamma", gamma)
        self.num_transform_layers = num_transform_layers
        self.bn_momentum = bn_momentum
        self.synchronized = synchronized
        self.transform: PointwiseMLP | None = None

    def build(self, input_shape: tuple) -> None:
        """Creates g for the input's channels."""
        if self.num_transform_layers:
            channels = input_shape[-1]
            self.transform = PointwiseMLP(
                channels,
                channels,
                self.num_transform_layers,
                bn_momentum=self.bn_momentum,
                synchronized=self.synchronized,
                name="transform",
                dtype=self.dtype_policy,
            )
            self.transform.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """`(B, h, w, C)` to `(B, h, w, C)`."""
        pixels, values = to_pixels(inputs), self.values(inputs, training)
        propagated = map_rows(self.propagate, [pixels], [pixels, values], MAX_ROWS)
        propagated = ops.reshape(propagated, (-1, *inputs.shape[1:]))
        return ops.cast(propagated, self.compute_dtype)

    def values(self, inputs: Tensor, training: bool = False) -> Tensor:
        """The unit-length `g(x_j)`: `(B, h, w, C)` to `(B, N, C)` float32."""
        values = inputs if self.transform is None else self.transform(inputs, training=training)
        return l2_normalize(to_pixels(values))

    def propagate(self, some: Tensor, pixels: Tensor, values: Tensor) -> Tensor:
        """`y_i` of some pixels.

        Args:
            some: `(B, R, C)`.
            pixels: `(B, N, C)`. All pixels of the image.
            values: `(B, N, C)`. What `values` gives for them.

        Returns:
            `(B, R, C)` float32.
        """
        others = None if some is pixels else pixels
        return ops.matmul(similarity(some, self.gamma, others), values)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "gamma": self.gamma,
            "num_transform_layers": self.num_transform_layers,
            "bn_momentum": self.bn_momentum,
            "synchronized": self.synchronized,
        }
