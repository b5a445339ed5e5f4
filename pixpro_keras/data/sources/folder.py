"""Images of a folder, at any depth."""

import array
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from pixpro_keras.data.sources.source import Source
from pixpro_keras.types import Tensor

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_ENDINGS = tuple(extension.encode() for extension in IMAGE_EXTENSIONS)


def find_folder(path: str) -> pathlib.Path:
    """Expands the path of a folder.

    Raises:
        ValueError: if there is no such folder.
    """
    root = pathlib.Path(os.path.expanduser(path))
    if not root.is_dir():
        raise ValueError(f"{path} is not a folder")
    return root


def iterate_images(folder: bytes, inside: bytes = b"") -> Iterator[bytes]:
    """Iterates over the paths of all images below a folder, relative to it, in byte order.

    The tree is walked once, and only one branch of it is in memory at a time. Links to folders are
    followed, except back to a folder that holds them.

    Args:
        folder: path of the folder.
        inside: path of the part to walk, relative to `folder`; empty or with a slash at its end.

    Example:
        ```python
        import os
        import pathlib
        import tempfile

        from pixpro_keras.data.sources import iterate_images

        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "a.jpg").touch()
            assert list(iterate_images(os.fsencode(folder))) == [b"a.jpg"]
        ```
    """
    found = []
    with os.scandir(os.path.join(folder, inside)) as entries:
        for entry in entries:
            if entry.is_dir():
                if not (entry.is_symlink() and _is_above(entry.path)):
                    # With the slash, the order within a folder is that of the whole paths.
                    found.append(inside + entry.name + b"/")
            elif entry.name.lower().endswith(_ENDINGS):
                found.append(inside + entry.name)
    for path in sorted(found):
        if path.endswith(b"/"):
            yield from iterate_images(folder, path)
        else:
            yield path


def number_classes(folders: Iterable[bytes]) -> dict[bytes, int]:
    """Numbers the folders that hold images, in byte order, as classes.

    That is the usual layout of labelled images, one folder per class and nothing beside them. Where
    folders lie in each other or images beside them, there are no classes, and the result is empty.

    Args:
        folders: paths relative to the folder that holds them; repetitions are allowed.

    Example:
        ```python
        from pixpro_keras.data.sources import number_classes

        assert number_classes([b"cat", b"dog", b"cat"]) == {b"cat": 0, b"dog": 1}
        assert number_classes([b"cat/tabby", b"dog"]) == {}
        ```
    """
    names = sorted(set(folders))
    if not all(name and b"/" not in name for name in names):
        return {}
    return {name: number for number, name in enumerate(names)}


def _is_above(link: bytes) -> bool:
    """True if a link leads to a folder that holds it."""
    target, parent = os.path.realpath(link), os.path.realpath(os.path.dirname(link))
    return os.path.commonpath([target, parent]) == target


def open_folder(specification: str, folder: str, data_dir: str | None = None) -> Source:
    """Opens all images of a folder; the folders that hold them are their classes.

    Args:
        specification: name of the source.
        folder: path of the folder.
        data_dir: not used.

    Raises:
        ValueError: if it is no folder, cannot be read or holds no image.
    """
    del data_dir
    find_folder(folder)
    root = os.fsencode(os.path.expanduser(folder))
    # Millions of paths are one string and their ends, not millions of objects.
    paths, ends, owners = bytearray(), array.array("q", [0]), array.array("i")
    parents: dict[bytes, int] = {}
    try:
        for path in iterate_images(root):
            paths += path
            ends.append(len(paths))
            owners.append(parents.setdefault(os.path.dirname(path), len(parents)))
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error}") from error
    if not owners:
        raise ValueError(f"{folder} holds no image ({', '.join(IMAGE_EXTENSIONS)}) at any depth")
    numbers = number_classes(parents)
    labels = np.array([numbers.get(parent, -1) for parent in parents], np.int32)
    all_paths, all_ends = tf.constant(bytes(paths)), tf.constant(np.frombuffer(ends, np.int64))
    all_labels = tf.constant(labels[np.frombuffer(owners, np.int32)])
    prefix = os.path.join(root, b"")

    def read(index: Tensor) -> dict[str, Tensor]:
        begin, end = all_ends[index], all_ends[index + 1]
        path = prefix + tf.strings.substr(all_paths, begin, end - begin)
        return {"image": tf.io.read_file(path), "label": all_labels[index]}

    def describe(index: int) -> str:
        return os.fsdecode(prefix + bytes(paths[ends[index] : ends[index + 1]]))

    class_names = tuple(os.fsdecode(name) for name in numbers) or None
    return Source(specification, len(owners), read, describe, class_names)
