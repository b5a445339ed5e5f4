"""Weight initializers that several networks share."""

import keras

__all__ = ["he_normal_fan_in", "he_normal_fan_out", "torch_defaults"]


def he_normal_fan_out() -> keras.initializers.Initializer:
    """Normal with variance 2 / (outputs of the convolution), not truncated, as in torch.

    Reference:
        He et al., ICCV 2015, arXiv:1502.01852.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import he_normal_fan_out

        convolution = keras.layers.Conv2D(64, 3, kernel_initializer=he_normal_fan_out())
        ```
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def he_normal_fan_in() -> keras.initializers.Initializer:
    """Normal with variance 2 / (inputs of each output), not truncated, as in torch.

    Reference:
        He et al., ICCV 2015, arXiv:1502.01852.

    Example:
        ```python
        import keras
        from pixpro_keras.layers.initializers import he_normal_fan_in

        linear = keras.layers.Dense(64, kernel_initializer=he_normal_fan_in())
        ```
    """
    return keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal")


def torch_defaults(fan_in: int) -> dict[str, keras.initializers.Initializer]:
    """PyTorch's default for convolutions and linear layers: uniform in +-1/sqrt(fan_in).

    The PixPro release leaves its heads at that default; only its backbone is He-normal.

    Args:
        fan_in: inputs of each output: input channels times kernel cells.

    Returns:
        `kernel_initializer` and `bias_initializer`, as arguments of a Keras layer.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import torch_defaults

        linear = keras.layers.Dense(128, **torch_defaults(fan_in=512))
        ```
    """
    bound = fan_in**-0.5
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        "bias_initializer": keras.initializers.RandomUniform(-bound, bound),
    }
