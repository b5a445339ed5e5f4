"""The pixel propagation module (PPM)."""

import keras
from keras import ops

from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.ops import blockwise, l2_normalize, to_pixels
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["PixelPropagation", "similarity"]


def similarity(pixels: Tensor, gamma: float, others: Tensor | None = None) -> Tensor:
    """`s(i, j) = max(cos(x_i, x_j), 0) ** gamma` between the pixels of each image.

    Args:
        pixels: `(B, R, C)`.
        gamma: sharpness, positive.
        others: `(B, N, C)`; None: `pixels` themselves.

    Returns:
        `(B, R, N)` float32 in [0, 1].

    Example:
        ```python
        import keras
        from pixpro_keras.layers import similarity

        print(similarity(keras.random.normal((2, 49, 256)), gamma=2.0).shape)  # (2, 49, 49)
        ```
    """
    unit = l2_normalize(pixels)
    other = unit if others is None else l2_normalize(others)
    cosine = ops.relu(ops.einsum("bic,bjc->bij", unit, other))
    if gamma == 2:
        return ops.square(cosine)
    # Powers below 1 have an infinite slope at 0; the PixPro release adds the same constant.
    return ops.power(cosine + 1e-6 if gamma < 1 else cosine, gamma)


@keras.saving.register_keras_serializable("pixpro_keras")
class PixelPropagation(keras.layers.Layer):
    """Smooths each pixel's feature with those of similar pixels of the same image.

    `y_i = sum_j max(cos(x_i, x_j), 0)^gamma * g(x_j)`, without softmax or division by the sum.
    g is `num_transform_layers` 1x1 convolutions with batch norm and ReLU between them, followed, as
    in the PixPro release but not in the paper, by scaling each `g(x_j)` to unit length. Large maps are
    compared block by block, see `ops.blockwise`.

    Args:
        gamma: sharpness of the similarity, positive; the paper's is 2.
        num_transform_layers: 0 (g is the identity) to 3; the paper's is 1.
        bn_momentum: fraction of the moving statistics that is kept in each step.

    Raises:
        ValueError: if `gamma` is not positive or `num_transform_layers` not in 0..3.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, equations 3 and 4.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import PixelPropagation

        propagation = PixelPropagation(gamma=2.0, num_transform_layers=1)
        print(propagation(keras.random.normal((2, 7, 7, 16))).shape)  # (2, 7, 7, 16)
        ```
    """

    def __init__(
        self,
        gamma: float = 2.0,
        num_transform_layers: int = 1,
        bn_momentum: float = 0.9,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.gamma = checks.positive("gamma", gamma)
        self.num_transform_layers = checks.in_range(
            "num_transform_layers", num_transform_layers, 0, 3
        )
        self.bn_momentum = bn_momentum
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
                name="transform",
                dtype=self.dtype_policy,
            )
            self.transform.build(input_shape)
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """`(B, h, w, C)` to `(B, h, w, C)`."""
        values = inputs if self.transform is None else self.transform(inputs, training=training)
        values = l2_normalize(to_pixels(values))

        def propagate(some: Tensor, pixels: Tensor, values: Tensor) -> Tensor:
            others = None if some is pixels else pixels
            return ops.matmul(similarity(some, self.gamma, others), values)

        pixels = to_pixels(inputs)
        propagated = blockwise(propagate, [pixels], [pixels, values])
        return ops.cast(ops.reshape(propagated, (-1, *inputs.shape[1:])), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {
            "gamma": self.gamma,
            "num_transform_layers": self.num_transform_layers,
            "bn_momentum": self.bn_momentum,
        }
