"""One call for a backbone in any of our files."""

import os
import pathlib

import h5py
import keras

from pixpro_keras.backbones import registry
from pixpro_keras.backbones.levels import feature_network
from pixpro_keras.utils.checksums import check_listed
from pixpro_keras.utils.errors import first_line
from pixpro_keras.weights.detectron2 import from_detectron2
from pixpro_keras.weights.torch import backbone_from_state, read_torch_file, state_dict_of

# Attribute of a weights file that says which network the weights belong to; Keras passes it over.
NAME_ATTRIBUTE = "pixpro_keras_backbone"
TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin")
_SERVING = "it is made for serving; export the same run with --format=keras and load that"


def load_backbone(
    path_or_name: str | os.PathLike, features: str = "c5", name: str | None = None
) -> keras.Model:
    """A float32 backbone from a file, a run or a name.

    Args:
        path_or_name: `backbone.keras` or `backbone.weights.h5` as exported here; a torch file
            (`.pth`, `.pt`, `.tar`, `.bin`) with a plain ResNet of the release, torchvision, timm or
            another method; a detectron2 `.pkl`; the folder of a run or of a conversion; or one of
            `backbones.available()`, which gives a network with new weights.
        features: `"c5"`: the last map. `"c2-c5"`: a dict of four maps. `"pooled"`: `(B, C)`.
        name: one of `backbones.available()`: the network of an `.h5` file that does not say it, such
            as keras.applications' own.

    Returns:
        Functional model of `(B, H, W, 3)` images in the network's own input convention.

    Raises:
        ValueError: naming what cannot be loaded and why.
        ImportError: naming the extra to install.
    """
    return feature_network(_load(path_or_name, name), features)


def _load(path_or_name: str | os.PathLike, name: str | None = None) -> keras.Model:
    if str(path_or_name) in registry.available():
        return registry.stock(str(path_or_name))
    path = pathlib.Path(path_or_name).expanduser()
    if path.is_dir():
        for candidate in (path / "backbone.keras", path / "export" / "backbone.keras"):
            if candidate.exists():
                return _load(candidate)
        if (path / "saved_model.pb").exists():
            raise ValueError(f"{path} is a SavedModel; {_SERVING}")
        raise ValueError(
            f"{path}: no backbone.keras there or in its export/; run experiments/export.py first"
        )
    if not path.exists():
        raise ValueError(
            "`path_or_name` must be a file, the folder of a run, or one of "
            f"pixpro_keras.backbones.available(). Received: {str(path_or_name)!r}"
        )
    check_listed(path)
    if path.suffix == ".keras":
        try:
            return keras.saving.load_model(path, compile=False)
        except Exception as error:  # zipfile, json, h5py and Keras each raise their own
            raise ValueError(f"{path}: no complete Keras file ({first_line(error)})") from error
    if path.suffix == ".h5":
        return _load_weights_file(path, name)
    if path.suffix == ".pkl":
        return from_detectron2(path)
    if path.suffix in TORCH_SUFFIXES:
        network, _, _ = backbone_from_state(state_dict_of(read_torch_file(path), path), path)
        return network
    if path.suffix in (".onnx", ".tflite"):
        raise ValueError(f"{path} is no Keras network; {_SERVING}")
    raise ValueError(f"{path}: files ending in {path.suffix!r} are not read")


def _load_weights_file(path: pathlib.Path, name: str | None) -> keras.Model:
    try:
        with h5py.File(path, "r") as file:
            name = file.attrs.get(NAME_ATTRIBUTE, name)
    except OSError as error:
        raise ValueError(f"{path}: no complete weights file ({first_line(error)})") from error
    if name is None:
        raise ValueError(
            f"{path} does not say which network it belongs to; `name` of "
            "pixpro_keras.load_backbone, or --backbone of a job, says it"
        )
    network = registry.stock(name)
    try:
        network.load_weights(path)
    except Exception as error:  # Keras raises whatever it stumbles over
        raise ValueError(f"{path}: no weights of {name} ({first_line(error)})") from error
    return network
