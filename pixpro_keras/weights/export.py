"""Export of a backbone to files for Keras, detectron2 and serving, which need no pixpro_keras."""

import dataclasses
import os
import pathlib
import pickle
import shutil
import tempfile
from collections.abc import Callable, Sequence

import h5py
import keras

from pixpro_keras import backbones
from pixpro_keras.backbones import keras_cv_networks, network_files, resnet
from pixpro_keras.utils.checksums import listing
from pixpro_keras.weights import serving
from pixpro_keras.weights.detectron2 import detectron2_config, to_detectron2
from pixpro_keras.weights.load import NAME_ATTRIBUTE
from pixpro_keras.weights.torch import save_safetensors, save_torchvision


@dataclasses.dataclass(frozen=True)
class _Format:
    """Format of an exported file.

    Attributes:
        file: name of the file or folder with C5.
        write: function of a plain network, its name and a path that writes the file.
        usage: function of the network's name and the path that gives the code to load the file.
        has_features: whether outputs other than C5 are possible.
    """

    file: str
    write: Callable[[keras.Model, str, pathlib.Path], None]
    usage: Callable[[str, pathlib.Path], str]
    has_features: bool = False

    def file_of(self, features: str) -> str:
        """Name of the file or folder with other outputs, such as `backbone_pooled.onnx`."""
        if features == "c5" or not self.has_features:
            return self.file
        stem, dot, ending = self.file.partition(".")
        return f"{stem}_{features}{dot}{ending}"


def _write_weights(network: keras.Model, name: str, path: pathlib.Path) -> None:
    network.save_weights(path)
    with h5py.File(path, "a") as file:
        file.attrs[NAME_ATTRIBUTE] = name


def _write_detectron2(network: keras.Model, name: str, path: pathlib.Path) -> None:
    path.write_bytes(pickle.dumps(to_detectron2(network, name)))


def _detectron2_usage(name: str, path: pathlib.Path) -> str:
    settings = detectron2_config(name) | {"MODEL.WEIGHTS": str(path)}
    return "detectron2 config: " + " ".join(f"{key} {value}" for key, value in settings.items())


def _keras_usage(name: str, path: pathlib.Path) -> str:
    package = "keras_cv" if name.startswith(keras_cv_networks.PREFIX) else None
    if network_files.is_file(name):
        package = network_files.package_of(name)
    before = f"import {package}; " if package else ""
    return f"{before}keras.saving.load_model({str(path)!r})"


def _torchvision_usage(name: str, path: pathlib.Path) -> str:
    network = f"torchvision.models.{name.removesuffix('_v1_5')}()"
    before = f"network = {network}; network.fc = torch.nn.Identity(); "
    if name.endswith("_d"):
        before = f"network = {_timm_network(name)}; "
    return f"{before}network.load_state_dict(torch.load({str(path)!r}))"


def _safetensors_usage(name: str, path: pathlib.Path) -> str:
    load = f"safetensors.torch.load_file({str(path)!r})"
    return f"network = {_timm_network(name)}; network.load_state_dict({load})"


def _timm_network(name: str) -> str:
    name = name.removesuffix("_v1_5")
    name = f"{name.removesuffix('_d')}d" if name.endswith("_d") else name
    return f"timm.create_model({name!r}, num_classes=0)"


_FORMATS = {
    "keras_applications": _Format(
        "backbone.weights.h5",
        _write_weights,
        lambda name, path: (
            f"{backbones.constructor_name(name)}(include_top=False, weights={str(path)!r})"
        ),
    ),
    "keras": _Format(
        "backbone.keras",
        lambda network, name, path: network.save(path),
        _keras_usage,
    ),
    "detectron2": _Format("detectron2.pkl", _write_detectron2, _detectron2_usage),
    "torchvision": _Format(
        "torchvision.pth",
        lambda network, name, path: save_torchvision(network, path),
        _torchvision_usage,
    ),
    "safetensors": _Format(
        "backbone.safetensors",
        lambda network, name, path: save_safetensors(network, path),
        _safetensors_usage,
    ),
    "saved_model": _Format(
        "saved_model",
        lambda network, name, path: serving.save_saved_model(network, path),
        lambda name, path: f"network = tf.saved_model.load({str(path)!r}); network.serve(images)",
        has_features=True,
    ),
    "onnx": _Format(
        "backbone.onnx",
        lambda network, name, path: serving.save_onnx(network, path),
        lambda name, path: (
            f"onnxruntime.InferenceSession({str(path)!r}).run(None, {{'images': x}})"
        ),
        has_features=True,
    ),
    "litert": _Format(
        "backbone.tflite",
        lambda network, name, path: serving.save_litert(network, path),
        lambda name, path: f"tf.lite.Interpreter({str(path)!r})",
        has_features=True,
    ),
}
FORMATS = tuple(_FORMATS)
# File or folder -> its format and its outputs.
CONTENT_BY_FILE = {
    kind.file_of(features): (name, features)
    for name, kind in _FORMATS.items()
    for features in (backbones.FEATURES if kind.has_features else ("c5",))
}
# Outputs of a file whose name states them.
_OUTPUTS = {"c5": "", "c2-c5": "  # C2 to C5", "pooled": "  # one vector per image"}
# Written at the end of a run.
_DEFAULT_FORMATS = ("keras_applications", "keras")


def usage_by_file(name: str) -> dict[str, str]:
    """File or folder of each format that a backbone has -> code that loads it from its own folder.

    Args:
        name: name of the backbone.

    Example:
        ```python
        from pixpro_keras.weights.export import usage_by_file

        print(usage_by_file("resnet50")["backbone.weights.h5"])
        ```
    """
    usages = {}
    for file, (chosen, features) in CONTENT_BY_FILE.items():
        try:
            check_format(chosen, name, features)
        except ValueError:
            continue
        usages[file] = _FORMATS[chosen].usage(name, pathlib.Path(file)) + _OUTPUTS[features]
    return usages


def check_format(chosen: str, name: str, features: str = "c5") -> None:
    """Raises an error for an unknown format, or one that a backbone does not support.

    Args:
        chosen: one of `FORMATS`.
        name: name of the backbone.
        features: outputs of the exported network, as in `export_backbone`.

    Raises:
        ValueError: with the reason.

    Example:
        ```python
        from pixpro_keras.weights import check_format

        check_format("onnx", "resnet50_v1_5", features="c2-c5")
        ```
    """
    if chosen not in FORMATS:
        raise ValueError(f"the format must be one of {', '.join(FORMATS)}. Received: {chosen}")
    if chosen == "keras_applications" and not backbones.is_keras_application(name):
        plain = name.removesuffix("_v1_5")
        reason = "keras.applications has no such network"
        if plain != name and plain in backbones.available():
            reason = (
                "its strides are in the 3x3 convolutions, and keras.applications' "
                f"{plain} would load it and give wrong features"
            )
        raise ValueError(
            f"{name} has no keras_applications weights: {reason}. Use the format keras"
        )
    if chosen == "detectron2":
        detectron2_config(name)
    if chosen in ("torchvision", "safetensors") and name not in resnet.ARCHITECTURES:
        raise ValueError(
            f"{name} has no {chosen} weights: torchvision's ResNets are resnet18_v1_5 to "
            "resnet152_v1_5, resnext and wide_resnet, and timm's resnet18_d to resnet152_d"
        )
    if features != "c5" and not _FORMATS[chosen].has_features:
        raise ValueError(f"the format {chosen} holds the backbone up to c5. Received: {features}")


def export_backbone(
    backbone: keras.Model,
    name: str,
    directory: str | os.PathLike,
    formats: Sequence[str] | None = None,
    features: str = "c5",
) -> dict[pathlib.Path, str]:
    """Writes a backbone's float32 weights, whatever precision or strategy it was trained with.

    The exported networks have output stride 32, even if the last stage was dilated in training: the
    weights are the same for any dilation.

    Args:
        backbone: trained network from `backbones.build(name)`.
        name: its name, or the path of the Keras file it was built from.
        directory: folder of the files; created when missing. Their checksums go to `SHA256SUMS`
            beside them, which `load_backbone` compares. Files there of other weights stay, but are no
            longer listed, so that neither `write_card` nor `upload` takes them for current ones.
        formats: some of `FORMATS`; default: those that Keras reads.
        features: outputs of `saved_model`, `onnx` and `litert`: `"c5"`, `"c2-c5"` or `"pooled"`; the last two
            are part of the file's name, as in `backbone_pooled.onnx`.

    Returns:
        Each file written -> code that loads it.

    Raises:
        ValueError: if a format is unknown or the backbone does not have it; nothing is written then.
        ImportError: if a format needs a package that is not installed.
        OSError: if the directory cannot be written; existing files stay unchanged.

    Example:
        ```python
        import tempfile

        import pixpro_keras

        backbone = pixpro_keras.backbones.build("resnet18_v1_5")
        files = pixpro_keras.export_backbone(backbone, "resnet18_v1_5", tempfile.mkdtemp())
        for file, usage in files.items():
            print(f"{file}: {usage}")
        ```
    """
    if formats is None:
        formats = [
            f for f in _DEFAULT_FORMATS if f == "keras" or backbones.is_keras_application(name)
        ]
    for chosen in formats:
        check_format(chosen, name, features)
    network = _plain_copy(backbone, name)
    outputs = backbones.feature_network(network, features)
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    origin = backbones.weights_digest(network)
    written = {}
    for chosen in formats:
        kind = _FORMATS[chosen]
        path = directory / kind.file_of(features)
        with listing(path, origin):
            _write_atomically(kind, outputs if kind.has_features else network, name, path)
        written[path] = kind.usage(name, path)
    return written


def _plain_copy(backbone: keras.Model, name: str) -> keras.Model:
    """Plain float32 network with output stride 32 and the backbone's weights."""
    network = backbones.plain_network(name)
    try:
        backbones.copy_weights(backbone, network)
    except ValueError as error:
        raise ValueError(f"`backbone` must be {name}: {error}") from error
    return network


def _write_atomically(kind: _Format, network: keras.Model, name: str, path: pathlib.Path) -> None:
    """Writes to a temporary path next to the file or folder, then moves the result to its place."""
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        temporary = pathlib.Path(folder) / path.name
        kind.write(network, name, temporary)
        if temporary.is_dir():
            if path.exists():
                shutil.move(path, pathlib.Path(folder) / "before")
        else:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
