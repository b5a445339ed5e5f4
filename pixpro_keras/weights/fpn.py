"""The weights of a feature pyramid network (FPN), in a file beside the exported backbone."""

import io
import os
import pathlib
from typing import Any

import keras
import numpy as np
from absl import logging

from pixpro_keras.backbones.names import available
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.utils.checksums import SUMS_FILE, check_listed, listing, read_manifest
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.weights.load import IMAGENET, keras_file

FPN_FILE = "fpn.npz"
# Weights without a path: those of keras.applications, and new ones on the command line.
_NAMES = (IMAGENET, "random")


def save_fpn(fpn: FPN, path: str | os.PathLike) -> None:
    """Writes an FPN's weights as a NumPy archive, by names such as `lateral3/kernel`.

    Args:
        fpn: built.
        path: file to write; its checksum goes to `SHA256SUMS` beside it.

    Raises:
        OSError: if the file cannot be written.

    Example:
        ```python
        import tempfile

        from pixpro_keras.layers.fpn import FPN
        from pixpro_keras.weights import save_fpn

        fpn = FPN(8)
        fpn.build({"c3": (1, 8, 8, 16), "c4": (1, 4, 4, 32), "c5": (1, 2, 2, 64)})
        save_fpn(fpn, f"{tempfile.mkdtemp()}/fpn.npz")
        ```
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.array(v) for name, v in _named_weights(fpn).items()}
    np.savez(buffer, **arrays)
    with listing(path):
        write_atomically(pathlib.Path(path), buffer.getvalue())


def load_fpn(fpn: FPN, path: str | os.PathLike) -> list[str]:
    """Loads a file of `save_fpn` into a built FPN.

    Args:
        fpn: built; it may have more levels than the file.
        path: file of `save_fpn`.

    Returns:
        Names of the FPN's weights that the file does not have; they stay as they are.

    Raises:
        ValueError: if the file holds something that the FPN does not, or of another shape.

    Example:
        ```python
        import tempfile

        from pixpro_keras.layers.fpn import FPN
        from pixpro_keras.weights import load_fpn, save_fpn

        maps = {"c3": (1, 8, 8, 16), "c4": (1, 4, 4, 32), "c5": (1, 2, 2, 64)}
        trained, larger = FPN(8), FPN(8)
        trained.build(maps)
        larger.build({"c2": (1, 16, 16, 8), **maps})
        path = f"{tempfile.mkdtemp()}/fpn.npz"
        save_fpn(trained, path)
        print(load_fpn(larger, path))  # the weights of c2's layers
        ```
    """
    check_listed(path)
    weights = _named_weights(fpn)
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            shape = tuple(weights[name].shape) if name in weights else None
            if shape != arrays[name].shape:
                raise ValueError(
                    f"{path} belongs to another FPN: {name} is {arrays[name].shape} there, {shape} here"
                )
        for name in arrays.files:
            weights[name].assign(arrays[name])
        return sorted(set(weights) - set(arrays.files))


def find_fpn(path: str | os.PathLike) -> pathlib.Path | None:
    """Finds the file of an FPN's weights beside an exported backbone.

    Args:
        path: path of the backbone, as for `load_backbone`. Names of networks have no file.

    Returns:
        The file, or None if there is none, or if `SHA256SUMS` beside it does not list it, since it then
        does not belong to the backbone's weights.

    Raises:
        ManifestError: if `SHA256SUMS` cannot be read.

    Example:
        ```python
        import tempfile

        from pixpro_keras.weights import find_fpn

        assert find_fpn(tempfile.mkdtemp()) is None
        ```
    """
    if str(path) in (*_NAMES, *available()):
        return None
    backbone = pathlib.Path(keras_file(path) or path).expanduser()
    file = backbone.parent / FPN_FILE
    if not (backbone.is_file() and file.exists()):
        return None
    manifest = backbone.parent / SUMS_FILE
    if manifest.exists() and FPN_FILE not in read_manifest(manifest):
        logging.warning("%s is not loaded: %s does not list it", file, manifest)
        return None
    return file


def _named_weights(fpn: FPN) -> dict[str, keras.Variable]:
    groups = (*fpn.laterals.values(), *fpn.outputs.values())
    return {
        f"{layer.name}/{weight.name}": weight
        for layers in groups
        for layer in layers
        for weight in layer.weights
    }
