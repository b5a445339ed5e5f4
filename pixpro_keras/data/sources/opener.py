"""Opener of image sources of all kinds."""

import os

import tensorflow as tf

from pixpro_keras.data.decoding import warn_of_small_ranges
from pixpro_keras.data.sources.folder import open_folder
from pixpro_keras.data.sources.joined import join
from pixpro_keras.data.sources.scenes import open_scenes
from pixpro_keras.data.sources.source import Source
from pixpro_keras.data.sources.specification import Openers
from pixpro_keras.data.sources.tfds import open_tfds
from pixpro_keras.data.sources.tfrecord import open_tfrecord

_NUM_LOOKED_AT = 8

_OPENERS: Openers[Source] = Openers(
    {
        "scenes[:SPLIT]": open_scenes,
        "folder:PATH": open_folder,
        "tfds:NAME[/config][:split]": open_tfds,
        "tfrecord:GLOB": open_tfrecord,
    },
    note=", or several with + between",
)


def split_specification(specification: str) -> list[str]:
    """Splits a specification with `+` into those of its sources.

    Args:
        specification: as for `open_source`.

    Example:
        ```python
        from pixpro_keras.data.sources import split_specification

        parts = split_specification("folder:photos+folder:a+b")
        assert parts == ["folder:photos", "folder:a+b"]
        ```
    """
    return _OPENERS.split(specification)


def open_source(specification: str | os.PathLike, *, data_dir: str | None = None) -> Source:
    """Opens a source.

    Args:
        specification: `scenes` or `scenes:SPLIT` (the embedded set); `folder:PATH` (jpg, jpeg, png, webp
            and bmp files at any depth); `tfds:NAME[/config][:split]` (the split defaults to train and
            may be a slice, `train[:10%]`); `tfrecord:GLOB` (records with `image/encoded` and, if
            there are labels, `image/class/label`; the names of all classes, if they are known, are
            `image/class/names` of each file's first record). Several with `+` between are joined:
            `folder:photos+folder:drawings`. A path object is a folder.
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.

    Raises:
        ValueError: if there is nothing to read; the message says what was expected.

    Example:
        ```python
        import pathlib
        import tempfile

        import tensorflow as tf
        from pixpro_keras.data import open_source

        with tempfile.TemporaryDirectory() as folder:
            image = tf.io.encode_jpeg(tf.zeros((8, 8, 3), tf.uint8))
            (pathlib.Path(folder) / "black.jpg").write_bytes(image.numpy())
            source = open_source(f"folder:{folder}")
            assert source.num_examples == 1
        ```
    """
    if not isinstance(specification, str):
        specification = f"folder:{os.fspath(specification)}"
    parts = [_OPENERS.open(part, data_dir) for part in split_specification(specification)]
    source = join(specification, parts) if len(parts) > 1 else parts[0]
    warn_of_small_ranges(
        lambda index: source.read(tf.constant(index, tf.int64))["image"].numpy(),
        source.describe,
        source.spread_indices(_NUM_LOOKED_AT),
    )
    return source
