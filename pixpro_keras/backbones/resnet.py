"""The paper's ResNets: stride in the 3x3 convolution, symmetric padding, no convolution biases.

ResNet-D, ResNeXt and wide ResNets are of the same family. Layer names follow keras.applications
(`conv2_block1_1_conv`, ...). Images come as RGB, scaled by ImageNet's mean and standard deviation.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from pixpro_keras.backbones.data_format import require_channels_last
from pixpro_keras.layers.initializers import he_normal_fan_out


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Architecture of a ResNet.

    Attributes:
        blocks: number of residual blocks in each of the four stages.
        is_basic: if True, a block is two 3x3 convolutions, else a bottleneck.
        groups: groups of a bottleneck's 3x3 convolution.
        group_width: channels of a group in the first stage; they double with each stage.
        is_deep: if True, the stem is three 3x3 convolutions, and shortcuts average where they stride
            (ResNet-D).

    Example:
        ```python
        from pixpro_keras.backbones.resnet import ARCHITECTURES

        assert ARCHITECTURES["resnext50_32x4d"].groups == 32
        ```
    """

    blocks: tuple[int, ...]
    is_basic: bool = False
    groups: int = 1
    group_width: int = 64
    is_deep: bool = False


# Depth of a ResNet -> residual blocks of its stages.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
# Names of the release (`_d`) and of torchvision; v1_5 tells torchvision's from keras.applications'.
ARCHITECTURES = {
    f"resnet{depth}{kind}": Architecture(blocks, depth < 50, is_deep=kind == "_d")
    for kind in ("_v1_5", "_d")
    for depth, blocks in BLOCKS.items()
} | {
    "resnext50_32x4d": Architecture(BLOCKS[50], groups=32, group_width=4),
    "resnext101_32x8d": Architecture(BLOCKS[101], groups=32, group_width=8),
    "wide_resnet50_2": Architecture(BLOCKS[50], group_width=128),
    "wide_resnet101_2": Architecture(BLOCKS[101], group_width=128),
}


def resnet_name(architecture: Architecture) -> str:
    """Name of a ResNet.

    Args:
        architecture: architecture of the network.

    Raises:
        ValueError: if there is none.

    Example:
        ```python
        from pixpro_keras.backbones.resnet import Architecture, resnet_name

        assert resnet_name(Architecture((3, 4, 6, 3))) == "resnet50_v1_5"
        ```
    """
    for name, known in ARCHITECTURES.items():
        if known == architecture:
            return name
    kind = "basic" if architecture.is_basic else "bottleneck"
    if (architecture.groups, architecture.group_width) != (1, 64):
        kind += f" ({architecture.groups} groups of {architecture.group_width} channels)"
    stem = ", with a deep stem," if architecture.is_deep else ""
    raise ValueError(
        f"a ResNet of {'-'.join(map(str, architecture.blocks))} {kind} blocks{stem} is none of "
        f"{', '.join(ARCHITECTURES)}"
    )


def grouping(kernel_shape: Sequence[int]) -> dict[str, Any]:
    """Groups of a bottleneck network, from its first 3x3 kernel.

    Args:
        kernel_shape: in torch's layout, `(C_out, C_in / groups, 3, 3)`.

    Returns:
        Arguments `groups` and `group_width` of `Architecture`.

    Example:
        ```python
        from pixpro_keras.backbones.resnet import grouping

        assert grouping((128, 4, 3, 3)) == {"groups": 32, "group_width": 4}
        ```
    """
    width, group_width = kernel_shape[:2]
    return {"groups": width // group_width, "group_width": group_width}


def build_resnet(
    name: str,
    *,
    output_stride: int = 32,
    bn_momentum: float = 0.9,
    batch_norm: type[layers.BatchNormalization] = layers.BatchNormalization,
    convolution: type[layers.Conv2D] = layers.Conv2D,
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    input_tensor: keras.KerasTensor | None = None,
) -> keras.Model:
    """A ResNet up to its last feature map (C5), with new weights.

    Convolutions are He-normal (fan out), the last batch-norm scale of each residual block is 0.

    Args:
        name: a key of `ARCHITECTURES`.
        output_stride: 32, or 16: the last stage keeps its resolution and its 3x3 convolutions are
            dilated by 2, with the same weights and names.
        bn_momentum: fraction of the moving statistics that is kept in each step.
        batch_norm: class of the batch norms; Keras's own for files that plain Keras reads.
        convolution: class of the convolutions; Keras's own for files that plain Keras reads.
        input_shape: `(H, W, 3)`; None is any side.
        input_tensor: images `(B, H, W, 3)` of layers that come before, instead of `input_shape`; the network
            begins with their inputs.

    Returns:
        Functional model `(B, H, W, 3) -> (B, H / output_stride, W / output_stride, C)`.

    Raises:
        DataFormatError: if Keras's image data format is channels_first.

    Reference:
        He et al., 2015, arXiv:1512.03385; stride as in torchvision and the PixPro release. ResNet-D: He et
        al., 2018, arXiv:1812.01187. ResNeXt: Xie et al., 2016, arXiv:1611.05431. Wide ResNets: Zagoruyko
        and Komodakis, 2016, arXiv:1605.07146.

    Example:
        ```python
        from pixpro_keras.backbones.resnet import build_resnet

        network = build_resnet("resnet18_v1_5", input_shape=(64, 64, 3))
        print(network.output_shape)  # (None, 2, 2, 512)
        ```
    """
    require_channels_last()
    architecture = ARCHITECTURES[name]
    builder = _Builder(architecture, convolution, batch_norm, bn_momentum)
    images = keras.Input(input_shape) if input_tensor is None else input_tensor
    if architecture.is_deep:
        x = images
        for part, stride in (("conv1_1", 2), ("conv1_2", 1)):
            x = builder.norm(builder.conv(x, 32, 3, part, stride), part)
            x = layers.ReLU(name=f"{part}_relu")(x)
        x = builder.conv(x, 64, 3, "conv1")
    else:
        x = builder.conv(images, 64, 7, "conv1", stride=2)
    x = builder.norm(x, "conv1")
    x = layers.ReLU(name="conv1_relu")(x)
    # After the ReLU, padding with zeros is padding with minus infinity.
    x = layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, num_blocks in enumerate(architecture.blocks):
        dilation = 2 if stage == 3 and output_stride == 16 else 1
        for block in range(num_blocks):
            is_strided = block == 0 and stage > 0 and dilation == 1
            x = builder.block(
                x,
                width=64 * 2**stage,
                name=f"conv{stage + 2}_block{block + 1}",
                stride=2 if is_strided else 1,
                dilation=dilation,
            )
    (inputs,) = keras.utils.get_source_inputs(images)
    return keras.Model(inputs, x, name=name)


def undo_zero_init_residual(network: keras.Model) -> None:
    """Sets batch-norm scales that are 0 to 1, as in detectron2's training from scratch.

    A residual block whose last scale is 0 passes on its input only. That helps in a pre-training of
    many steps; a detector of a few hundred would spend them on raising the scales.

    Args:
        network: a ResNet, changed in place.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.backbones.resnet import undo_zero_init_residual

        backbone = backbones.build("resnet18_v1_5")
        undo_zero_init_residual(backbone)
        assert backbone.get_layer("conv2_block1_2_bn").gamma[0] == 1
        ```
    """
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization) and layer.scale:
            scale = keras.ops.convert_to_numpy(layer.gamma)
            if not scale.any():
                layer.gamma.assign(np.ones_like(scale))


def use_fan_in(network: keras.Model) -> None:
    """Scales new He-normal kernels from fan out, `2 / (k k C_out)`, to fan in, `2 / (k k C_in)`.

    Args:
        network: a ResNet with new weights, changed in place.

    Raises:
        ValueError: if its kernels are not He-normal with fan out.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.backbones.resnet import use_fan_in

        backbone = backbones.build("resnet18_v1_5")
        use_fan_in(backbone)
        ```
    """
    convolutions = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]
    modes = {getattr(layer.kernel_initializer, "mode", None) for layer in convolutions}
    if modes != {"fan_out"}:
        raise ValueError(f"{network.name} is no ResNet whose kernels are He-normal with fan out")
    for layer in convolutions:
        inputs, outputs = layer.kernel.shape[-2:]
        layer.kernel.assign(layer.kernel * (outputs / inputs) ** 0.5)


class _Builder:
    """Builder of the layers of a network, with common batch-norm settings."""

    def __init__(
        self, architecture: Architecture, convolution: type, batch_norm: type, bn_momentum: float
    ):
        self._architecture = architecture
        self._convolution = convolution
        self._batch_norm = batch_norm
        self._norm_settings = {
            "momentum": bn_momentum,
            "epsilon": 1e-5,
        }

    def conv(self, x, filters: int, size: int, name: str, stride: int = 1, dilation=1, groups=1):
        """Applies a convolution with torch's padding: equal numbers of zeros on all sides."""
        padding = "same"
        if stride > 1 and size > 1:
            # "same" with a stride pads bottom and right only.
            x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
            padding = "valid"
        return self._convolution(
            filters,
            size,
            strides=stride,
            padding=padding,
            dilation_rate=dilation,
            groups=groups,
            use_bias=False,
            kernel_initializer=he_normal_fan_out(),
            name=f"{name}_conv",
        )(x)

    def norm(self, x, name: str, is_last: bool = False):
        gamma = "zeros" if is_last else "ones"
        return self._batch_norm(gamma_initializer=gamma, name=f"{name}_bn", **self._norm_settings)(
            x
        )

    def block(self, x, width: int, name: str, stride: int, dilation: int):
        """Applies a basic block (two 3x3 convolutions) or a bottleneck (1x1, strided 3x3, 1x1)."""
        architecture = self._architecture
        out_channels = width if architecture.is_basic else 4 * width
        shortcut = x
        if x.shape[-1] != out_channels:  # A stride always comes with a new width.
            shortcut = self.shortcut(x, out_channels, f"{name}_0", stride)
        groups = architecture.groups
        if architecture.is_basic:
            plan = [(width, 3, stride, 1), (width, 3, 1, 1)]
        else:
            inner = width * architecture.group_width * groups // 64
            plan = [(inner, 1, 1, 1), (inner, 3, stride, groups), (out_channels, 1, 1, 1)]
        for index, (filters, size, conv_stride, conv_groups) in enumerate(plan, start=1):
            is_last = index == len(plan)
            part = f"{name}_{index}"
            conv_dilation = dilation if size == 3 else 1
            x = self.conv(x, filters, size, part, conv_stride, conv_dilation, conv_groups)
            x = self.norm(x, part, is_last)
            if not is_last:
                x = layers.ReLU(name=f"{part}_relu")(x)
        x = layers.Add(name=f"{name}_add")([shortcut, x])
        return layers.ReLU(name=f"{name}_out")(x)

    def shortcut(self, x, filters: int, name: str, stride: int):
        """Applies the projection shortcut: a strided 1x1 convolution. ResNet-D pools before it instead."""
        if self._architecture.is_deep and stride > 1:
            # With "same", windows at the lower and right border of odd maps average fewer cells.
            x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_pool")(x)
            stride = 1
        return self.norm(self.conv(x, filters, 1, name, stride), name)
