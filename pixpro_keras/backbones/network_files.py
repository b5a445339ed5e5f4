"""Backbones from Keras files: any functional model from images to a map, KerasHub's among them."""

import functools
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import keras

from pixpro_keras.backbones.dtype_policies import global_policy, with_policy
from pixpro_keras.backbones.keras_cv_networks import import_keras_cv
from pixpro_keras.backbones.levels import require_feature_map
from pixpro_keras.backbones.weight_copies import copy_normalization, copy_weights
from pixpro_keras.utils.checksums import check_listed
from pixpro_keras.utils.errors import first_line

SUFFIX = ".keras"
# Operations on images that are no layers. `GetItem` takes channels in another order.
_ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "GetItem")


def is_file(name: str) -> bool:
    """True if the name of a backbone is the path of a Keras file.

    Example:
        ```python
        from pixpro_keras.backbones import network_files

        assert network_files.is_file("backbones/mine.keras")
        ```
    """
    return name.endswith(SUFFIX)


def read_file(path: str | os.PathLike) -> keras.Model:
    """Reads the model in a Keras file, with its weights.

    Args:
        path: of a file that ends with `.keras`.

    Raises:
        ValueError: if it is not there, or cannot be read; naming it.
        ImportError: if a package whose layers it holds is not installed.

    Example:
        ```python
        import tempfile

        import pixpro_keras
        from pixpro_keras.backbones import network_files

        path = f"{tempfile.mkdtemp()}/mine.keras"
        pixpro_keras.backbones.build("resnet18_v1_5").save(path)
        print(network_files.read_file(path).output_shape)  # (None, None, None, 512)
        ```
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    check_listed(path)
    try:
        package = package_of(path)
        if package == "keras_cv":
            import_keras_cv()
        elif package == "keras_hub":
            _import_keras_hub()
        return keras.saving.load_model(path, compile=False)
    except ImportError:
        raise
    except Exception as error:  # zipfile, json, h5py and Keras raise different errors.
        fault = "cannot be read" if zipfile.is_zipfile(path) else "no complete Keras file"
        raise ValueError(f"{path}: {fault} ({first_line(error)})") from error


def package_of(path: str | os.PathLike) -> str | None:
    """Package whose layers are in a Keras file, `keras_cv` or `keras_hub`; None for plain Keras.

    Keras reads such a file only once the package has registered its layers.

    Raises:
        OSError: if the file cannot be read.

    Example:
        ```python
        import tempfile

        import pixpro_keras
        from pixpro_keras.backbones import network_files

        path = f"{tempfile.mkdtemp()}/mine.keras"
        pixpro_keras.backbones.build("resnet18_v1_5").save(path)
        assert network_files.package_of(path) is None
        ```
    """
    with zipfile.ZipFile(pathlib.Path(path).expanduser()) as file:
        config = file.read("config.json")
    for package in ("keras_cv", "keras_hub"):
        if package.encode() in config:
            return package
    return None


def _import_keras_hub() -> None:
    try:
        import keras_hub  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "backbones of KerasHub need keras-hub: pip install 'pixpro-keras[keras-hub]'"
        ) from error


def backbone_in(path: str) -> keras.Model:
    """The backbone in a Keras file, with its weights; the same object for the same file.

    Raises:
        ValueError: if the file cannot be read, or its model is no backbone.
        ImportError: if a package whose layers it holds is not installed.

    Example:
        ```python
        import tempfile

        import pixpro_keras
        from pixpro_keras.backbones import network_files

        path = f"{tempfile.mkdtemp()}/mine.keras"
        pixpro_keras.backbones.build("resnet18_v1_5").save(path)
        assert network_files.backbone_in(path) is network_files.backbone_in(path)
        ```
    """
    file = pathlib.Path(path).expanduser()
    try:
        status = file.stat()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    return _read_backbone(str(file), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=1)  # of each change of the file
def _read_backbone(path: str, changed: int, size: int) -> keras.Model:
    network = read_file(path)
    try:
        require_feature_map(network)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return network


def with_new_weights(network: keras.Model, policy: str) -> keras.Model:
    """Builds the same network, of the same class, of Keras's layers, with new weights.

    The statistics of `Normalization` stay.

    Args:
        network: functional model.
        policy: name of the dtype policy of all its layers, whatever they had.

    Example:
        ```python
        import pixpro_keras
        from pixpro_keras.backbones import network_files

        network = pixpro_keras.backbones.plain_network("resnet18_v1_5")
        network = network_files.with_new_weights(network, "float32")
        print(network.output_shape)  # (None, None, None, 512)
        ```
    """
    with global_policy(policy):  # of layers that are not in the config
        config = _of_plain_keras(with_policy(network.get_config(), policy))
        copy = type(network).from_config(config)
    copy_normalization(network, copy)
    return copy


def _of_plain_keras(config: Any) -> Any:
    """Config of a model with Keras's layers instead of ours of the same name, as in trained backbones."""
    if isinstance(config, list):
        return [_of_plain_keras(value) for value in config]
    if not isinstance(config, dict):
        return config
    copy = {name: _of_plain_keras(value) for name, value in config.items()}
    package, _, name = (copy.get("registered_name") or "").rpartition(">")
    if package == "pixpro_keras" and hasattr(keras.layers, name):
        copy |= {"module": "keras.layers", "registered_name": None}
    return copy


def in_float32(network: keras.Model) -> keras.Model:
    """Returns the network if all its layers compute in float32, or else a copy that does, with equal weights.

    Args:
        network: functional model.

    Example:
        ```python
        import keras

        from pixpro_keras.backbones import network_files

        inputs = keras.Input((None, None, 3))
        network = keras.Model(inputs, keras.layers.Conv2D(8, 3, dtype="mixed_float16")(inputs))
        print(network_files.in_float32(network).output.dtype)  # float32
        ```
    """
    # Models have the policy under which they were read, and inputs none.
    unused = keras.Model, keras.layers.InputLayer
    layers = [layer for layer in network._flatten_layers() if not isinstance(layer, unused)]
    if all(layer.compute_dtype == "float32" for layer in layers):
        return network
    copy = with_new_weights(network, "float32")
    copy_weights(network, copy)
    return copy


def first_operations(network: keras.Model) -> list:
    """A network and its operations up to the first that computes something, also inside of nested models.

    Inputs and random augmentation (`RandomFlip`, ...) are passed over.

    Example:
        ```python
        import keras

        from pixpro_keras.backbones.network_files import first_operations

        inner = keras.Sequential([keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3)])
        outer = keras.Sequential([keras.Input((32, 32, 3)), inner])
        assert first_operations(outer)[-1] is inner.layers[0]
        ```
    """
    found: list = [network]
    for operation in _operations(network):
        found.append(operation)
        is_container = isinstance(operation, keras.layers.InputLayer | keras.Model)
        if not (is_container or type(operation).__name__.startswith("Random")):
            break
    return found


def _operations(network: keras.Model) -> Iterator:
    """Operations in their order, those of a nested model after it."""
    for operation in getattr(network, "operations", network.layers):
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)


def scales_images(network: keras.Model) -> bool:
    """True if a network begins with scaling of its images, and so takes RGB in 0..255.

    `Rescaling`, `Normalization` and arithmetic, as in a `preprocess_input` of keras.applications, count.

    Example:
        ```python
        import pixpro_keras
        from pixpro_keras.backbones import network_files

        assert network_files.scales_images(pixpro_keras.backbones.build("efficientnetb0"))
        ```
    """
    first = first_operations(network)[-1]
    is_layer = isinstance(first, keras.layers.Rescaling | keras.layers.Normalization)
    return is_layer or type(first).__name__ in _ARITHMETIC


def fixed_size(network: keras.Model) -> int | None:
    """Fixed image side in pixels of a network; None if it takes any size.

    Raises:
        ValueError: if these images are not square.

    Example:
        ```python
        import pixpro_keras
        from pixpro_keras.backbones import network_files

        assert network_files.fixed_size(pixpro_keras.backbones.build("resnet18_v1_5")) is None
        ```
    """
    height, width = network.input.shape[1:3]
    if height != width:
        raise ValueError(f"{network.name} takes images of {height} x {width}: they must be square")
    return height
