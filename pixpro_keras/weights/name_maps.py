"""One name table for the weights of ResNets: ours, keras.applications', torch's and detectron2's.

    ours and keras.applications   conv3_block1_2_bn    conv3_block1_0_conv
    torch                         layer2.0.bn2         layer2.0.downsample.0
    detectron2                    res3.0.conv2.norm    res3.0.shortcut

torchvision, timm and the official checkpoints agree on torch's names, and detectron2's follow from
them by the rule of the official converter. Every weight has exactly one name in each column.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

# Names of a layer's weights in the other frameworks, in the order of `layer.weights`.
_WEIGHT_NAMES = {
    keras.layers.Conv2D: ("weight", "bias"),
    keras.layers.Dense: ("weight", "bias"),
    keras.layers.BatchNormalization: ("weight", "bias", "running_mean", "running_var"),
}


# The deep stem's convolutions are numbered in torch, and its shortcuts have a pooling before them.
_DEEP_STEM = {
    "conv1_1_conv": "conv1.0.0",
    "conv1_1_bn": "conv1.0.1",
    "conv1_2_conv": "conv1.1.0",
    "conv1_2_bn": "conv1.1.1",
    "conv1_conv": "conv1.2",
    "conv1_bn": "bn1",
}


def torch_layer_name(name: str, is_deep: bool = False) -> str:
    """Torch's name of a ResNet's layer.

    Args:
        name: our name, which is keras.applications'.
        is_deep: whether the network is a ResNet-D, in the names of the release.

    Raises:
        ValueError: if the layer is no convolution or batch norm of a ResNet.

    Example:
        ```python
        from pixpro_keras.weights.name_maps import torch_layer_name

        assert torch_layer_name("conv3_block1_2_bn") == "layer2.0.bn2"
        assert torch_layer_name("conv3_block1_0_conv") == "layer2.0.downsample.0"
        ```
    """
    stem = _DEEP_STEM if is_deep else {"conv1_conv": "conv1", "conv1_bn": "bn1"}
    if name in stem:
        return stem[name]
    match = re.fullmatch(r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)", name)
    if match is None:
        raise ValueError(f"`name` must be a ResNet's convolution or batch norm. Received: {name!r}")
    stage, block, index, kind = match.groups()
    prefix = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{prefix}.downsample.{is_deep + (kind == 'bn')}"
    return f"{prefix}.{kind}{index}"


def detectron2_layer_name(name: str) -> str:
    """detectron2's name of a ResNet's layer.

    Args:
        name: our name, which is keras.applications'.

    Raises:
        ValueError: if the layer is no convolution or batch norm of a ResNet.

    Example:
        ```python
        from pixpro_keras.weights.name_maps import detectron2_layer_name

        assert detectron2_layer_name("conv1_conv") == "stem.conv1"
        assert detectron2_layer_name("conv3_block1_2_bn") == "res3.0.conv2.norm"
        ```
    """
    name = torch_layer_name(name)
    if not name.startswith("layer"):
        name = f"stem.{name}"
    name = re.sub(r"layer(\d)", lambda match: f"res{int(match.group(1)) + 1}", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    return re.sub(r"bn(\d)", r"conv\1.norm", name)


def named_variables(
    layers: Iterable[keras.layers.Layer], layer_name: Callable[[str], str]
) -> dict[str, keras.Variable]:
    """Name of each weight in another framework -> our variable.

    Args:
        layers: layers of a network; those without weights are skipped.
        layer_name: function of a layer's own name that gives its name in the other framework.

    Raises:
        ValueError: if a layer has weights that the other framework has no name for, or two weights
            would get the same name.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.weights import name_maps

        layers = backbones.build("resnet18_v1_5").layers
        variables = name_maps.named_variables(layers, name_maps.detectron2_layer_name)
        assert "stem.conv1.norm.running_mean" in variables
        ```
    """
    named: dict[str, keras.Variable] = {}
    for layer in layers:
        weight_names = next((x for kind, x in _WEIGHT_NAMES.items() if isinstance(layer, kind)), ())
        if len(weight_names) < len(layer.weights):
            raise ValueError(
                "the network must consist of convolutions and batch norms. "
                f"Received: the layer {layer.name} of type {type(layer).__name__}"
            )
        for weight_name, variable in zip(weight_names, layer.weights, strict=False):
            name = f"{layer_name(layer.name)}.{weight_name}"
            if name in named:
                raise ValueError(f"two weights would be called {name}: layer {layer.name}")
            named[name] = variable
    return named


def torch_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Torch's name of each weight of one of the paper's ResNets -> our variable.

    Raises:
        ValueError: if the model is another network, keras.applications' ResNets included: their
            stride is elsewhere, so that the same weights would give other features.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.weights.name_maps import torch_variables

        variables = torch_variables(backbones.build("resnet18_v1_5"))
        print(variables["layer1.0.conv1.weight"].shape)  # (3, 3, 64, 64)
        ```
    """
    biased = [layer.name for layer in model.layers if getattr(layer, "use_bias", False)]
    if biased:
        raise ValueError(
            "`model` must be a v1_5 ResNet or a relative of it, whose convolutions have no bias. "
            f"Received: {model.name}, with the layer {biased[0]}"
        )
    is_deep = any(layer.name == "conv1_1_conv" for layer in model.layers)
    return named_variables(model.layers, functools.partial(torch_layer_name, is_deep=is_deep))


def to_torch_layout(values) -> np.ndarray:
    """Transposes kernels `(h, w, I, O)` to `(O, I, h, w)`, `(I, O)` to `(O, I)`; other weights stay.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.weights.name_maps import from_torch_layout, to_torch_layout

        kernel = np.ones((3, 3, 64, 128))
        assert to_torch_layout(kernel).shape == (128, 64, 3, 3)
        assert from_torch_layout(to_torch_layout(kernel)).shape == kernel.shape
        ```
    """
    array = np.asarray(values)
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
    return np.ascontiguousarray(array.transpose(axes)) if axes else array


def from_torch_layout(array: np.ndarray) -> np.ndarray:
    """Inverse of `to_torch_layout`, which shows both in its example."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(np.ndim(array))
    return np.transpose(array, axes) if axes else np.asarray(array)


def to_torch_state_dict(
    variables: Mapping[str, keras.Variable], num_batches: int = 0
) -> dict[str, np.ndarray]:
    """Named variables as a torch state dict of float32 arrays.

    Args:
        variables: torch's name -> our variable.
        num_batches: value of torch's `num_batches_tracked`.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.weights import name_maps

        backbone = backbones.build("resnet18_v1_5")
        state_dict = name_maps.to_torch_state_dict(name_maps.torch_variables(backbone))
        name_maps.load_torch_state_dict(backbones.build("resnet18_v1_5"), state_dict)
        ```
    """
    state_dict = {}
    for name, variable in variables.items():
        array = keras.ops.convert_to_numpy(variable).astype("float32")
        state_dict[name] = to_torch_layout(array)
        if name.endswith("running_var"):
            # torch keeps the number of steps beside the statistics and asks for it when loading.
            counter = name.removesuffix("running_var") + "num_batches_tracked"
            state_dict[counter] = np.array(num_batches, "int64")
    return state_dict


def assign_state_dict(
    variables: Mapping[str, keras.Variable], state_dict: Mapping[str, np.ndarray], network: str
) -> None:
    """Loads a state dict of arrays, of torch or detectron2, into named variables.

    Args:
        variables: name in the other framework -> our variable.
        state_dict: the same name -> array in torch's layout. Batch norm's `num_batches_tracked` is
            ignored.
        network: name of the network, for the error.

    Raises:
        ValueError: naming what is missing, left over or of another shape; nothing is loaded then.
    """
    arrays = {
        name: from_torch_layout(array)
        for name, array in state_dict.items()
        if not name.endswith("num_batches_tracked")
    }
    problems = [f"{name} is missing" for name in variables if name not in arrays]
    problems += [f"{name} is left over" for name in arrays if name not in variables]
    problems += [
        f"{name} has the shape {arrays[name].shape} instead of {tuple(variable.shape)}"
        for name, variable in variables.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"the weights do not fit {network}: {'; '.join(problems[:5])}{more}")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def load_torch_state_dict(model: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Loads a torch state dict of arrays into one of the paper's ResNets; see `to_torch_state_dict`.

    Args:
        model: from `backbones.build`, such as `"resnet50_v1_5"`.
        state_dict: torch's name -> array in torch's layout (kernels are `(O, I, H, W)`). The classifier
            (`fc.*`) and batch norm's `num_batches_tracked` are ignored.

    Raises:
        ValueError: naming what is missing, left over or of another shape; nothing is loaded then.
    """
    backbone = {name: x for name, x in state_dict.items() if not name.startswith("fc.")}
    assign_state_dict(torch_variables(model), backbone, model.name)
