"""One name table: our layer names (those of keras.applications) and torch's, for the v1_5 ResNets.

torchvision, timm and the authors' release agree on torch's names (`layer1.0.conv1.weight`).
"""

import re
from collections.abc import Mapping

import keras
import numpy as np

# Position of a weight in our layer -> torch's name for it.
_PARTS = {
    keras.layers.Conv2D: ("weight",),
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


def torch_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Torch's name of each weight of a v1_5 ResNet -> our variable.

    Raises:
        ValueError: if the model is another network.
    """
    named = {}
    for layer in model.layers:
        parts = _PARTS.get(type(layer), ())
        if len(parts) != len(layer.weights):
            raise ValueError(
                "`model` must be a v1_5 ResNet, whose weights are those of convolutions without bias "
                f"and of batch norms. Received: {model.name}, with the layer {layer.name}"
            )
        for part, variable in zip(parts, layer.weights, strict=True):
            named[f"{torch_layer_name(layer.name)}.{part}"] = variable
    return named


def load_torch_state(model: keras.Model, state: Mapping[str, np.ndarray]) -> None:
    """Loads a torch state dict of arrays into a v1_5 ResNet.

    Args:
        model: from `backbones.build("resnet..._v1_5")`.
        state: torch's name -> array in torch's layout (kernels are `(O, I, H, W)`). The classifier
            (`fc.*`) and batch norm's `num_batches_tracked` are passed over.

    Raises:
        ValueError: naming what is missing, left over or of another shape; nothing is loaded then.
    """
    variables = torch_variables(model)
    arrays = {
        name: np.transpose(array, (2, 3, 1, 0)) if np.ndim(array) == 4 else np.asarray(array)
        for name, array in state.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
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
        raise ValueError(f"the weights do not fit {model.name}: {'; '.join(problems[:5])}{more}")
    for name, variable in variables.items():
        variable.assign(arrays[name])
