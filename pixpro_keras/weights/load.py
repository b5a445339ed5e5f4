"""Loading of a backbone from any of our files, a torch file or a detectron2 file."""

import os
import pathlib

import h5py
import keras
import numpy as np

from pixpro_keras.backbones import network_files, registry
from pixpro_keras.backbones.inputs import min_image_size
from pixpro_keras.backbones.levels import feature_network, require_feature_map
from pixpro_keras.backbones.names import available, name_of
from pixpro_keras.backbones.weight_copies import copy_weights
from pixpro_keras.utils.checksums import check_listed
from pixpro_keras.utils.errors import first_line
from pixpro_keras.weights.detectron2 import from_detectron2
from pixpro_keras.weights.torch import backbone_from_state_dict, find_state_dict, read_torch_file

# Attribute of a weights file with the name of its network; Keras ignores it.
NAME_ATTRIBUTE = "pixpro_keras_backbone"
# Instead of a path: ImageNet weights of keras.applications.
IMAGENET = "imagenet"
TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors")
_SERVING = "it is made for serving; export the same run with --format=keras and load the result"


def load_backbone(
    path_or_name: str | os.PathLike, features: str = "c5", name: str | None = None
) -> keras.Model:
    """Loads a float32 backbone from a file, a run or a name.

    Args:
        path_or_name: `backbone.keras` or `backbone.weights.h5` as exported here; a torch file
            (`.pth`, `.pt`, `.tar`, `.bin`, `.ckpt`, `.safetensors`) with a plain ResNet of the
            authors, torchvision, timm or another method; a detectron2 `.pkl`; the folder of a run or of a
            conversion; one of `backbones.available()`, which gives a network with new weights; or
            `"imagenet"`: the weights that keras.applications has for the network `name`, downloaded once.
        features: `"c5"`: the last map. `"c2-c5"`: a dict of four maps. `"pooled"`: `(B, C)`.
        name: name as for `backbones.build`: the network of `"imagenet"`, or of an `.h5` file that
            does not state it, such as keras.applications' own. Other files must hold that network.

    Returns:
        Functional model of `(B, H, W, 3)` images in the network's own input convention.

    Raises:
        ValueError: naming what cannot be loaded and why.
        ImportError: naming the extra to install.

    Example:
        ```python
        import tempfile

        import pixpro_keras

        folder = tempfile.mkdtemp()
        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        pixpro_keras.export_backbone(backbone, "resnet18_v1_5", folder)
        network = pixpro_keras.load_backbone(folder, features="pooled")
        print(network.output_shape)  # (None, 512)
        ```
    """
    network = _load(path_or_name, name)
    own = name_of(network)
    if name is not None and own not in (None, name) and not network_files.is_file(name):
        raise ValueError(f"{path_or_name} is {own}, and `name` is {name}")
    try:
        require_feature_map(network)
    except ValueError as error:
        raise ValueError(f"{path_or_name}: {error}") from error
    network = network_files.in_float32(network)
    file = keras_file(path_or_name)
    if file and own is None and name is not None and not network_files.is_file(name):
        _check_same_network(network, file, name)
    return feature_network(network, features)


def _check_same_network(network: keras.Model, path: str, name: str) -> None:
    """Raises a ValueError if a network from a file is not the one that the user named.

    Layers without weights, such as scaling of the images before it, make it another.
    """
    named = registry.plain_network(name)
    try:
        copy_weights(network, named)
    except ValueError as error:
        raise ValueError(f"{path} is not {name}: {error}") from error
    side = network_files.fixed_size(network) or min_image_size(name)
    images = np.random.default_rng(0).uniform(0, 255, (1, side, side, 3)).astype("float32")
    found, expected = (np.asarray(x(images, training=False)) for x in (network, named))
    limit = 1e-3 * np.abs(expected).max()  # Rounding is far below.
    if not (found.shape == expected.shape and np.allclose(found, expected, 0, limit, True)):
        raise ValueError(
            f"{path} is not {name}: it has the same weights, but other layers, and gives other features. "
            f"Named {path}, it is taken as it is"
        )


def _load(path_or_name: str | os.PathLike, name: str | None = None) -> keras.Model:
    if str(path_or_name) in available():
        return registry.plain_network(str(path_or_name))
    if str(path_or_name) == IMAGENET:
        if name is None:
            raise ValueError("`name` must be the network whose ImageNet weights are meant")
        return registry.imagenet_network(name)
    path = pathlib.Path(path_or_name).expanduser()
    file = keras_file(path)
    if file is not None:
        return network_files.read_file(file)
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            raise ValueError(f"{path} is a SavedModel; {_SERVING}")
        raise ValueError(
            f"{path}: no backbone.keras there or in its export/; run pixpro-export first"
        )
    if not path.exists():
        raise ValueError(
            f"{path_or_name}: no such file or folder, and not one of "
            "pixpro_keras.backbones.available()"
        )
    check_listed(path)
    if path.suffix == ".h5":
        return _load_weights_file(path, name)
    if path.suffix == ".pkl":
        return from_detectron2(path)
    if path.suffix in TORCH_SUFFIXES:
        state_dict = find_state_dict(read_torch_file(path), path)
        network, _, _ = backbone_from_state_dict(state_dict, path)
        return network
    if path.suffix in (".onnx", ".tflite"):
        raise ValueError(f"{path} is not a Keras network; {_SERVING}")
    raise ValueError(f"{path}: files ending in {path.suffix!r} are not read")


def keras_file(path: str | os.PathLike) -> str | None:
    """Keras file that `load_backbone` reads at a path and that also names its network; None for other files.

    Args:
        path: a file, or the folder of a run or of a conversion.

    Example:
        ```python
        import tempfile

        import pixpro_keras
        from pixpro_keras.weights.load import keras_file

        folder = tempfile.mkdtemp()
        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        pixpro_keras.export_backbone(backbone, "resnet18_v1_5", folder)
        assert keras_file(folder) == f"{folder}/backbone.keras"
        ```
    """
    path = pathlib.Path(path).expanduser()
    candidates = (path, path / "backbone.keras", path / "export" / "backbone.keras")
    found = (x for x in candidates if x.suffix == network_files.SUFFIX and x.is_file())
    return next(map(str, found), None)


def _load_weights_file(path: pathlib.Path, name: str | None) -> keras.Model:
    try:
        with h5py.File(path, "r") as file:
            name = file.attrs.get(NAME_ATTRIBUTE, name)
            matrices = _matrices(file)
    except OSError as error:
        raise ValueError(f"{path}: no complete weights file ({first_line(error)})") from error
    if name is None:
        raise ValueError(
            f"{path} does not name its network; give it by `name` of "
            "pixpro_keras.load_backbone, or by --backbone of a command"
        )
    network = registry.plain_network(name)
    num_matrices = sum(len(weight.shape) == 2 for weight in network.weights)
    if len(matrices) > num_matrices:
        raise ValueError(
            f"{path}: has a matrix that {name} does not have, {matrices[-1]}: it belongs to a classifier "
            "with its top. Save the network without the top: include_top=False in keras.applications"
        )
    try:
        network.load_weights(path)
    except Exception as error:  # Keras raises many kinds of errors.
        raise ValueError(f"{path}: no weights of {name} ({first_line(error)})") from error
    return network


def _matrices(file: h5py.File) -> list[str]:
    """Names of the weights with two axes: a classifier's, in a convolutional network."""
    found: list[str] = []

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        is_weight = isinstance(item, h5py.Dataset) and not name.startswith("optimizer")
        if is_weight and len(item.shape) == 2:
            found.append(name)

    file.visititems(visit)
    return found
