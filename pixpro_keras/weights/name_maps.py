"""One name table for the weights of ResNets: ours, keras.applications', torch's and detectron2's.

    ours and keras.applications   conv3_block1_2_bn    conv3_block1_0_conv
    torch                         layer2.0.bn2         layer2.0.downsample.0
    detectron2                    res3.0.conv2.norm    res3.0.shortcut

torchvision, timm and the authors' release agree on torch's names, and detectron2's follow from them
by the rule of the release's own converter. Every weight has exactly one name in each column.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

# Position of a weight in our layer -> its name in the other frameworks.
_PARTS = {
    keras.layers.Conv2D: ("weight", "bias"),
    keras.layers.Dense: ("weight", "bias"),
    keras.layers.BatchNormalization: ("weight", "bias", "running_mean", "running_var"),
}


def torch_layer_name(name: str) -> str:
    """`conv3_block1_2_bn` to `layer2.0.bn2`, `conv3_block1_0_conv` to `layer2.0.downsample.0`.

    Raises:
        ValueError: if the layer is no convolution or batch norm of a ResNet.
    """
    if name in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn1"}[name]
    match = re.fullmatch(r"conv([2-5])_block(\d+)_([0-3])_(conv|bn)", name)
    if match is None:
        raise ValueError(f"`name` must be a ResNet's convolution or batch norm. Received: {name!r}")
    stage, block, index, kind = match.groups()
    prefix = f"layer{int(stage) - 1}.{int(block) - 1}"
    if index == "0":
        return f"{prefix}.downsample.{0 if kind == 'conv' else 1}"
    return f"{prefix}.{kind}{index}"


def detectron2_layer_name(name: str) -> str:
    """`conv3_block1_2_bn` to `res3.0.conv2.norm`, `conv1_conv` to `stem.conv1`.

    Raises:
        ValueError: if the layer is no convolution or batch norm of a ResNet.
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
    """The other framework's name of each weight -> our variable.

    Args:
        layers: layers of a network; those without weights are passed over.
        layer_name: gives the other framework's name of a layer's own name.

    Raises:
        ValueError: if a layer has weights that the other framework has no name for, or two weights
            would get the same name.
    """
    named: dict[str, keras.Variable] = {}
    for layer in layers:
        parts = next((x for kind, x in _PARTS.items() if isinstance(layer, kind)), ())
        if len(parts) < len(layer.weights):
            raise ValueError(
                "the network must consist of convolutions and batch norms. "
                f"Received: the layer {layer.name} of type {type(layer).__name__}"
            )
        for part, variable in zip(parts, layer.weights, strict=False):
            name = f"{layer_name(layer.name)}.{part}"
            if name in named:
                raise ValueError(f"two weights would be called {name}: layer {layer.name}")
            named[name] = variable
    return named


def torch_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Torch's name of each weight of a v1_5 ResNet -> our variable.

    Raises:
        ValueError: if the model is another network, keras.applications' ResNets included: their
            stride is elsewhere, so that the same weights would give other features.
    """
    biased = [layer.name for layer in model.layers if getattr(layer, "use_bias", False)]
    if biased:
        raise ValueError(
            "`model` must be a v1_5 ResNet, whose convolutions have no bias. "
            f"Received: {model.name}, with the layer {biased[0]}"
        )
    return named_variables(model.layers, torch_layer_name)


def to_torch_layout(values) -> np.ndarray:
    """`(h, w, I, O)` and `(I, O)` kernels to `(O, I, h, w)` and `(O, I)`; other weights stay."""
    array = np.asarray(values)
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
    return np.ascontiguousarray(array.transpose(axes)) if axes else array


def from_torch_layout(array: np.ndarray) -> np.ndarray:
    """The inverse of `to_torch_layout`."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(np.ndim(array))
    return np.transpose(array, axes) if axes else np.asarray(array)


def torch_state(
    variables: Mapping[str, keras.Variable], num_batches: int = 0
) -> dict[str, np.ndarray]:
    """Named variables as a torch state dict of float32 arrays.

    Args:
        variables: torch's name -> our variable.
        num_batches: what torch's batch norms say they have seen.
    """
    state = {}
    for name, variable in variables.items():
        array = keras.ops.convert_to_numpy(variable).astype("float32")
        state[name] = to_torch_layout(array)
        if name.endswith("running_var"):
            # torch keeps the number of steps beside the statistics and asks for it when loading.
            counter = name.removesuffix("running_var") + "num_batches_tracked"
            state[counter] = np.array(num_batches, "int64")
    return state


def assign_torch_state(
    variables: Mapping[str, keras.Variable], state: Mapping[str, np.ndarray], what: str
) -> None:
    """Loads a torch state dict of arrays into named variables.

    Args:
        variables: torch's name -> our variable.
        state: torch's name -> array in torch's layout. Batch norm's `num_batches_tracked` is passed
            over.
        what: the network, for the error.

    Raises:
        ValueError: naming what is missing, left over or of another shape; nothing is loaded then.
    """
    arrays = {
        name: from_torch_layout(array)
        for name, array in state.items()
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
        raise ValueError(f"the weights do not fit {what}: {'; '.join(problems[:5])}{more}")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def load_torch_state(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Loads a torch state dict of arrays into a v1_5 ResNet.

    Args:
        model: from `backbones.build("resnet..._v1_5")`.
        state: torch's name -> array in torch's layout (kernels are `(O, I, H, W)`). The classifier
            (`fc.*`) and batch norm's `num_batches_tracked` are passed over.

    Raises:
        ValueError: naming what is missing, left over or of another shape; nothing is loaded then.
    """
    backbone = {name: array for name, array in state.items() if not name.startswith("fc.")}
    assign_torch_state(torch_variables(model), backbone, model.name)
