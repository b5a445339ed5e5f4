"""Feature maps of a backbone: C5, C2 to C5, or one vector per image."""

import math
import re
from collections.abc import Sequence

import keras

FEATURES = ("c5", "c2-c5", "pooled")
_PROBE_SIZE = 256  # pixels; a multiple of every stride
_LEVELS = ("c2", "c3", "c4", "c5")
# Prefix of the name of a layer that marks a level.
_MARK = "level_"


def require_feature_map(network: object, channels: int | None = 3) -> None:
    """Checks that a model is a backbone: functional, `(B, H, W, 3) -> (B, h, w, C)`.

    Args:
        network: anything.
        channels: those of its images; None is any number, where images do not come from this package.

    Raises:
        ValueError: if it is not; names the model, the problem and a solution.

    Example:
        ```python
        import keras

        from pixpro_keras import backbones

        try:
            backbones.require_feature_map(keras.applications.MobileNetV2(weights=None))
        except ValueError as error:
            print(error)  # mobilenetv2_1.00_224 is no backbone: its output has the shape (None, 1000), ...
        ```
    """
    fault = _fault(network, channels)
    if fault is None:
        return
    places = ("encoder.backbone", getattr(network, "encoder", None)), ("backbone", network)
    for place, owner in places:
        if isinstance(getattr(owner, "backbone", None), keras.Model):
            fault = f"it is a model of the class {type(network).__name__}, which has one as its `{place}`"
            break
    name = getattr(network, "name", None) or repr(network)
    raise ValueError(
        f"{name} is no backbone: {fault}. `backbone` must be a functional Keras model from images to its "
        "last feature map, (B, H, W, 3) -> (B, h, w, C): include_top=False and pooling=None in "
        "keras.applications, or keras.Model(network.input, LAST_MAP)"
    )


def _fault(network: object, channels: int | None) -> str | None:
    """Reason why a model is not a backbone; None if it is one."""
    if isinstance(network, str):
        return "it is a name, of which `pixpro_keras.backbones.build` makes a model"
    if not isinstance(network, keras.Model):
        return f"it is a {type(network).__name__}, not a keras.Model"
    if isinstance(network, keras.Sequential) and network.built:
        return (
            "it is a Sequential, which has no input of its own; "
            "keras.Model(network.inputs[0], network.outputs[0]) is the same network as a functional model"
        )
    try:
        inputs, output = network.input, network.output
    except (AttributeError, ValueError):  # Subclassed models, and models that are not built.
        return (
            f"it is a {type(network).__name__} that is not functional: its layers are called in Python "
            "code, or it is not built, and so its maps cannot be reached"
        )
    if not isinstance(inputs, keras.KerasTensor):
        return _number(inputs, "inputs")
    if len(inputs.shape) != 4 or inputs.shape[-1] not in (None, channels or inputs.shape[-1]):
        return f"its input has the shape {tuple(inputs.shape)}"
    if not isinstance(output, keras.KerasTensor):
        return _number(output, "outputs")
    shape = tuple(output.shape)
    if len(shape) == 2:
        return f"its output has the shape {shape}, of a classifier with its top or of a pooled map"
    if len(shape) != 4 or shape[-1] is None:
        return f"its output has the shape {shape}"
    return None


def _number(tensors: list | tuple | dict, kind: str) -> str:
    """Fault of a model whose `inputs` or `outputs` are not one tensor."""
    count = len(keras.tree.flatten(tensors))
    if count == 1:
        return f"its {kind} are a {type(tensors).__name__} of one tensor, not the tensor"
    names = f" ({', '.join(map(str, tensors))})" if isinstance(tensors, dict) else ""
    return f"it has {count} {kind}{names}"


def feature_network(backbone: keras.Model, features: str = "c5") -> keras.Model:
    """Makes a model of the backbone with other outputs; the weights are shared, not copied.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        features: `"c5"`: the last map, the backbone itself. `"c2-c5"`: a dict of the maps at strides
            4, 8, 16 and 32 by the names `c2` to `c5` (C5 keeps stride 16 where the backbone was built
            so). `"pooled"`: the mean of the last map, `(B, C)`.

    Returns:
        Functional model of the same images.

    Raises:
        ValueError: if `features` is unknown, the model is no backbone (see `require_feature_map`), or
            it has no map of one of the strides.

    Example:
        ```python
        from pixpro_keras import backbones

        backbone = backbones.build("resnet18_v1_5")
        maps = backbones.feature_network(backbone, "c2-c5").output
        print({name: x.shape[-1] for name, x in maps.items()})
        ```
    """
    if features not in FEATURES:
        raise ValueError(f"`features` must be one of {', '.join(FEATURES)}. Received: {features!r}")
    require_feature_map(backbone, channels=None)
    if features == "c5":
        return backbone
    if features == "pooled":
        pool = keras.layers.GlobalAveragePooling2D(
            data_format="channels_last", dtype=backbone.output.dtype, name="pooled"
        )
        pooled = pool(backbone.output)
        return keras.Model(backbone.input, pooled, name=backbone.name)
    return pyramid_network(backbone, lowest=2)


def pyramid_network(backbone: keras.Model, lowest: int = 3) -> keras.Model:
    """Makes a model of the backbone with the maps `c{lowest}` to `c5`; see `feature_network`.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        lowest: level of the first map, 2 to 5.

    Raises:
        ValueError: if the network has no map of one of the strides.

    Example:
        ```python
        from pixpro_keras import backbones

        network = backbones.pyramid_network(backbones.build("resnet18_v1_5"))
        assert list(network.output) == ["c3", "c4", "c5"]
        ```
    """
    require_feature_map(backbone, channels=None)
    maps = _maps(backbone, _LEVELS[lowest - 2 :])
    return keras.Model(backbone.input, maps, name=backbone.name)


def level_network(backbone: keras.Model, level: str) -> keras.Model:
    """Makes a model of the backbone up to one of its maps; see `feature_network`.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        level: `"c2"` to `"c5"`.

    Raises:
        ValueError: if the network has no map of its stride.

    Example:
        ```python
        from pixpro_keras import backbones

        network = backbones.level_network(backbones.build("resnet18_v1_5"), "c3")
        print(network.output_shape)  # (None, None, None, 128)
        ```
    """
    require_feature_map(backbone, channels=None)
    if level == "c5":
        return backbone
    return keras.Model(backbone.input, _maps(backbone, (level,))[level], name=backbone.name)


def _maps(backbone: keras.Model, levels: Sequence[str]) -> dict[str, keras.KerasTensor]:
    """Level name -> map, of some levels."""
    maps = named_levels(backbone) | _stage_outputs(backbone)
    if not maps.keys() >= {*levels} - {"c5"}:
        by_stride = _last_map_by_stride(backbone)
        maps = {f"c{n}": by_stride[2**n] for n in (2, 3, 4, 5) if 2**n in by_stride} | maps
    maps["c5"] = backbone.output
    missing = [f"{2 ** int(level[1:])} ({level})" for level in levels if level not in maps]
    if missing:
        strides = ", ".join(map(str, sorted(_last_map_by_stride(backbone))))
        inner = [f" (those of the model {x.name} in it are not reached)" for x in _models(backbone)]
        raise ValueError(
            f"{backbone.name} has no map of stride {', '.join(missing)}. It has those of stride {strides}"
            + "".join(inner)
        )
    return {level: maps[level] for level in levels}


def named_levels(backbone: keras.Model) -> dict[str, keras.KerasTensor]:
    """Maps of the levels that a network itself names.

    Backbones of KerasHub and KerasCV do so for their detectors, and copies of them by `mark_level`.

    Args:
        backbone: functional model.

    Returns:
        Level, such as `"c3"` of stride 8, to its map; empty where the network names none.

    Example:
        ```python
        from pixpro_keras.backbones import levels, plain_network

        named = levels.named_levels(plain_network("keras_cv:yolo_v8_xs_backbone"))
        assert set(named) >= {"c3", "c4", "c5"}
        ```
    """
    outputs = getattr(backbone, "pyramid_outputs", None) or {  # of KerasHub
        name: backbone.get_layer(layer).output  # of KerasCV
        for name, layer in (getattr(backbone, "pyramid_level_inputs", None) or {}).items()
    }
    # Level names are derived from strides, since KerasHub's MiT starts with P1 at stride 4.
    sides = _sides(backbone, list(outputs.values()))
    named = {
        f"c{round(math.log2(whole / side))}": output
        for output, (whole, side) in zip(outputs.values(), sides, strict=True)
        if side is not None
    }
    return named | {
        layer.name.removeprefix(_MARK): layer.output
        for layer in backbone.layers
        if re.fullmatch(rf"{_MARK}c\d", layer.name)
    }


def map_strides(network: keras.Model) -> list[int | None]:
    """Strides of the maps of a network: image pixels per cell.

    Args:
        network: functional model with one or several outputs.

    Returns:
        One number per output, in their order; None for outputs that are no maps, and for maps whose
        padding leaves no whole number.

    Example:
        ```python
        from pixpro_keras import backbones
        from pixpro_keras.backbones import levels

        backbone = backbones.build("resnet18_v1_5", output_stride=16)
        assert levels.map_strides(backbones.feature_network(backbone, "c2-c5")) == [4, 8, 16, 16]
        ```
    """
    sides = _sides(network, keras.tree.flatten(network.output))
    return [None if not side or whole % side else whole // side for whole, side in sides]


def _sides(backbone: keras.Model, outputs: list[keras.KerasTensor]) -> list[tuple[int, int | None]]:
    """Pairs of image and output heights in pixels, one per output; None for outputs that are not maps."""
    if not outputs:
        return []
    height, width = (side or _PROBE_SIZE for side in backbone.input.shape[1:3])
    network = keras.Model(backbone.input, outputs)
    images = keras.KerasTensor((1, height, width, backbone.input.shape[-1] or 3))
    specs = network.compute_output_spec(images)
    return [(height, spec.shape[1] if len(spec.shape) == 4 else None) for spec in specs]


def mark_level(level: str) -> keras.layers.Layer:
    """Identity layer whose name marks a level, also in copies of a network.

    Args:
        level: of the map that the layer is called on, such as `"c3"`.

    Example:
        ```python
        from pixpro_keras.backbones import levels

        print(levels.mark_level("c3").name)  # level_c3
        ```
    """
    return keras.layers.Identity(name=f"{_MARK}{level}")


def _stage_outputs(backbone: keras.Model) -> dict[str, keras.KerasTensor]:
    """Level name -> output of the stage's last block at the level's stride, in ResNets of keras.applications.

    Chosen only by stride, C2 of a v1_5 ResNet would be the first convolution of the next stage, and C2 to C4
    of a ResNetV2 convolutions inside the last block of their stage, which halves the map.
    """
    blocks = [
        (int(match.group(1)), layer.output)
        for layer in backbone.layers
        if (match := re.fullmatch(r"conv([2-5])_block\d+_out", layer.name))
    ]
    sides = _sides(backbone, [output for _, output in blocks])
    return {
        f"c{stage}": output
        for (stage, output), (whole, side) in zip(blocks, sides, strict=True)
        if side and round(math.log2(whole / side)) == stage
    }


def _models(backbone: keras.Model) -> list[keras.Model]:
    return [layer for layer in backbone.layers if isinstance(layer, keras.Model)]


def _last_map_by_stride(backbone: keras.Model) -> dict[int, keras.KerasTensor]:
    """Stride -> deepest map of that stride."""
    outputs = _layer_outputs(backbone)
    maps = {}
    for output, (whole, side) in zip(outputs, _sides(backbone, outputs), strict=True):
        # Maps with one row belong to squeeze-and-excitation; padded maps have no integer stride.
        if side and side > 1 and whole % side == 0:
            maps[whole // side] = output
    return maps


def _layer_outputs(backbone: keras.Model) -> list[keras.KerasTensor]:
    """Outputs of all calls of layers, in their order; a layer's `output` is that of its first call only."""
    graph = keras.Model(backbone.input, backbone.output)
    places = {operation: place for place, operation in enumerate(graph.operations)}
    nodes = [
        node
        for _, same_depth in sorted(graph._nodes_by_depth.items(), reverse=True)
        for node in sorted(same_depth, key=lambda node: places[node.operation])
    ]
    return [
        node.outputs[0]
        for node in nodes
        if isinstance(node.operation, keras.layers.Layer) and len(node.outputs) == 1
    ]
