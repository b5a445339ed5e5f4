"""A trained backbone as files that plain Keras opens, without this package."""

import itertools
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence

import keras

from pixpro_keras import backbones

# Format -> file name.
FORMATS = {"keras_applications": "backbone.weights.h5", "keras": "backbone.keras"}


def export_backbone(
    backbone: keras.Model,
    name: str,
    directory: str | os.PathLike,
    formats: Sequence[str] | None = None,
) -> dict[pathlib.Path, str]:
    """Writes a backbone's float32 weights, whatever precision or strategy it was trained with.

    The networks in the files have output stride 32, also when training dilated the last stage: the
    weights are the same, and users of a backbone dilate it to their own needs.

    Args:
        backbone: from `backbones.build(name)`, trained.
        name: its name.
        directory: where the files go; created when missing.
        formats: keys of `FORMATS`; default: all that the backbone has.

    Returns:
        Each file written -> how to load it.

    Raises:
        ValueError: if a format is unknown or the backbone does not have it.
        OSError: if the directory cannot be written; files from before stay as they were.
    """
    if formats is None:
        formats = [f for f in FORMATS if f == "keras" or backbones.is_keras_application(name)]
    for chosen in formats:
        if chosen not in FORMATS:
            raise ValueError(f"the format must be one of {', '.join(FORMATS)}. Received: {chosen}")
        if chosen == "keras_applications" and not backbones.is_keras_application(name):
            plain = name.removesuffix("_v1_5")
            raise ValueError(
                f"{name} has no keras_applications weights: its strides are in the 3x3 convolutions, "
                f"and keras.applications' {plain} would load it and give wrong features. "
                "Use the format keras"
            )
    network = plain_copy(backbone, name)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    written = {}
    for chosen in formats:
        path = directory / FORMATS[chosen]
        if chosen == "keras":
            _save_atomically(network.save, path)
            written[path] = f"keras.saving.load_model({str(path)!r})"
        else:
            _save_atomically(network.save_weights, path)
            constructor = backbones.constructor_name(name)
            written[path] = f"{constructor}(include_top=False, weights={str(path)!r})"
    return written


def plain_copy(backbone: keras.Model, name: str) -> keras.Model:
    """The stock float32 network, of output stride 32, with the backbone's weights.

    Raises:
        ValueError: naming the first weight that does not fit.
    """
    network = backbones.stock(name)
    pairs = itertools.zip_longest(map(_describe, backbone.weights), map(_describe, network.weights))
    for trained, plain in pairs:
        if trained != plain:
            raise ValueError(
                f"`backbone` must be {name}. Received: {trained or 'no weight'} in the place of "
                f"{plain or 'no weight'}."
            )
    for plain, trained in zip(network.weights, backbone.weights, strict=True):
        plain.assign(keras.ops.convert_to_numpy(trained))
    return network


def _describe(weight: keras.Variable) -> str:
    """Layer, name and shape of a weight, as they are in every copy of its network.

    Keras numbers unnamed layers and weights through the process (`conv2d_94` in the second
    InceptionV3), and a cloned model loses the names of the models nested in it.
    """
    parts = [re.sub(r"_\d+$", "", part) for part in weight.path.split("/")[-2:]]
    return f"{'/'.join(parts)} {tuple(weight.shape)}"


def _save_atomically(save, path: pathlib.Path) -> None:
    """Lets Keras write beside the file, then puts the result in its place."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = pathlib.Path(folder) / path.name
        save(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
