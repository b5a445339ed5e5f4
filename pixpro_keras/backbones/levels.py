"""Feature maps of a backbone: C5, C2 to C5, or one vector per image."""

import re

import keras

FEATURES = ("c5", "c2-c5", "pooled")
_PROBE_SIZE = 256  # pixels; a multiple of every stride


def feature_network(backbone: keras.Model, features: str = "c5") -> keras.Model:
    """The backbone with other outputs; the weights are shared, not copied.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        features: `"c5"`: the last map, the backbone itself. `"c2-c5"`: a dict of the maps at strides
            4, 8, 16 and 32 by the names `c2` to `c5` (C5 keeps stride 16 where the backbone was built
            so). `"pooled"`: the mean of the last map, `(B, C)`.

    Raises:
        ValueError: if `features` is unknown, or the network has no map of one of the strides.

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
    if features == "c5":
        return backbone
    if features == "pooled":
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(backbone.output)
        return keras.Model(backbone.input, pooled, name=backbone.name)
    return keras.Model(backbone.input, _pyramid(backbone), name=backbone.name)


def pyramid_network(backbone: keras.Model, lowest: int = 3) -> keras.Model:
    """The backbone with a dict of its maps from `c{lowest}` to `c5`; see `feature_network`.

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
    network = feature_network(backbone, "c2-c5")
    maps = {name: x for name, x in network.output.items() if int(name[1:]) >= lowest}
    return keras.Model(network.input, maps, name=backbone.name)


def level_network(backbone: keras.Model, level: str) -> keras.Model:
    """The backbone up to one of its maps; see `feature_network`.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        level: `"c2"` to `"c5"`.

    Raises:
        ValueError: if the network has no map of one of the strides.

    Example:
        ```python
        from pixpro_keras import backbones

        network = backbones.level_network(backbones.build("resnet18_v1_5"), "c3")
        print(network.output_shape)  # (None, None, None, 128)
        ```
    """
    if level == "c5":
        return backbone
    levels = pyramid_network(backbone, lowest=2)
    return keras.Model(levels.input, levels.output[level], name=backbone.name)


def _pyramid(backbone: keras.Model) -> dict[str, keras.KerasTensor]:
    stages = {
        match.group(1): layer.output  # the last block of a stage replaces those before it
        for layer in backbone.layers
        if (match := re.fullmatch(r"conv([2-5])_block\d+_out", layer.name))
    }
    # By stride alone, a v1_5 ResNet's C2 would be the first convolution of the next stage. ResNetV2
    # uses the same names for stages that end with their stride.
    if len(stages) == 4 and backbone.layers[-1].name.startswith("conv5_block"):
        return {f"c{stage}": output for stage, output in stages.items()}
    maps = _last_map_by_stride(backbone)
    missing = [str(stride) for stride in (4, 8, 16, 32) if stride not in maps]
    if missing:
        raise ValueError(
            f"`features` must be c5 or pooled for {backbone.name}, which has no map of stride "
            f"{', '.join(missing)}. Received: 'c2-c5'"
        )
    return {f"c{level}": maps[2**level] for level in (2, 3, 4)} | {"c5": backbone.output}


def _last_map_by_stride(backbone: keras.Model) -> dict[int, keras.KerasTensor]:
    """Stride -> the deepest map of that stride."""
    outputs = [
        layer.output for layer in backbone.layers if isinstance(layer.output, keras.KerasTensor)
    ]
    everything = keras.Model(backbone.input, outputs)
    specs = everything.compute_output_spec(keras.KerasTensor((1, _PROBE_SIZE, _PROBE_SIZE, 3)))
    maps = {}
    for output, spec in zip(outputs, specs, strict=True):
        height = spec.shape[1] if len(spec.shape) == 4 else None
        # A map of one row is a squeeze-and-excitation's; padded maps divide into no stride.
        if height and height > 1 and _PROBE_SIZE % height == 0:
            maps[_PROBE_SIZE // height] = output
    return maps
