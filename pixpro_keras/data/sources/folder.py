"""Images of a folder and its subfolders."""

import array
import collections
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.data.lookalikes import warn_of_lookalikes
from pixpro_keras.data.sources.source import Source
from pixpro_keras.types import Tensor
from pixpro_keras.utils.fingerprint import fingerprint, size_fingerprint

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_ENDINGS = tuple(extension.encode() for extension in IMAGE_EXTENSIONS)
# Folders created by operating systems and storage devices, besides names that begin with a dot.
_LEFT_BEHIND = (
    b"__macosx",
    b"@eadir",
    b"#recycle",
    b"$recycle.bin",
    b"system volume information",
    b"lost+found",
    b"thumbs.db",
    b"ehthumbs.db",
    b"desktop.ini",
)
_OF_A_RUN = b"flags.cfg"  # File in the folder of each training, with its pictures and charts.
_NAMES_SHOWN = 5


def find_folder(path: str) -> pathlib.Path:
    """Expands the path of a folder.

    Raises:
        ValueError: if there is no such folder.
    """
    root = pathlib.Path(os.path.expanduser(path))
    if not root.is_dir():
        parts = [part.removeprefix("folder:") for part in re.split("[+,]", path)]
        are_folders = all(os.path.isdir(os.path.expanduser(part)) for part in parts)
        joined = "+".join(f"folder:{part}" for part in parts)
        hint = f"; did you mean {joined}?" if are_folders and len(parts) > 1 else ""
        raise ValueError(f"{path} is not a folder{hint}")
    return root


def is_hidden(name: bytes) -> bool:
    """Returns True for hidden files and folders, and those created by programs, which are never read.

    Args:
        name: its name, without its folder.

    Example:
        ```python
        from pixpro_keras.data.sources.folder import is_hidden

        assert is_hidden(b".ipynb_checkpoints") and is_hidden(b"__MACOSX")
        assert not is_hidden(b"cat.jpg")
        ```
    """
    return name.startswith(b".") or name.lower() in _LEFT_BEHIND


def iterate_images(folder: bytes) -> Iterator[bytes]:
    """Iterates over the paths of all images below a folder, relative to it, in byte order.

    The tree is walked once, and only one branch of it is in memory at a time. Hidden files and folders
    are left out, and so are the folders of trainings, whose pictures are not data. Links to folders are
    followed, but each folder is read once. At the end, three lines of the log count the files of other
    kinds, the folders of trainings and the links that were not followed.

    Args:
        folder: path of the folder.

    Example:
        ```python
        import os
        import pathlib
        import tempfile

        from pixpro_keras.data.sources import iterate_images

        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "a.jpg").touch()
            (pathlib.Path(folder) / "._a.jpg").touch()
            assert list(iterate_images(os.fsencode(folder))) == [b"a.jpg"]
        ```
    """
    walk = _Walk(folder)
    yield from walk.images(b"")
    name = os.fsdecode(folder)
    if walk.others:
        kinds = [os.fsdecode(kind) or "no ending" for kind, _ in walk.others.most_common()]
        shown = ", ".join(kinds[:_NAMES_SHOWN]) + (", ..." if len(kinds) > _NAMES_SHOWN else "")
        count = sum(walk.others.values())
        logging.warning("%s: skipped %d files of other kinds (%s)", name, count, shown)
    if walk.runs:
        runs = [os.fsdecode(run) for run in walk.runs[:_NAMES_SHOWN]]
        logging.warning(
            "%s: skipped %d folders of trainings, such as %s", name, len(walk.runs), ", ".join(runs)
        )
    if walk.links:
        links = [os.fsdecode(link) for link in walk.links[:_NAMES_SHOWN]]
        logging.warning(
            "%s: %d links not followed, since they lead to folders that are read anyway, such as %s",
            name,
            len(walk.links),
            ", ".join(links),
        )


class _Walk:
    """Recursive walk through a folder.

    Attributes:
        others: number of other files by extension.
        runs: subfolders of trainings.
        links: links that were not followed.
    """

    def __init__(self, folder: bytes):
        self._folder = folder
        self._root = os.path.realpath(folder)
        self._elsewhere: set[bytes] = set()  # Real paths of folders that are reached only by links.
        self.others: collections.Counter[bytes] = collections.Counter()
        self.runs: list[bytes] = []
        self.links: list[bytes] = []

    def images(self, inside: bytes, is_elsewhere: bool = False) -> Iterator[bytes]:
        """Yields the images below a subfolder, whose path is empty or ends with a slash."""
        found = []
        linked = set()
        others: collections.Counter[bytes] = collections.Counter()
        with os.scandir(os.path.join(self._folder, inside)) as entries:
            for entry in entries:
                path = inside + entry.name
                if is_hidden(entry.name):
                    continue
                if _is_folder(entry):
                    # With the slash, the order within a folder is that of the whole paths.
                    found.append(path + b"/")
                    if entry.is_symlink():
                        linked.add(path + b"/")
                elif entry.name.lower().endswith(_ENDINGS) and _is_file_or_link(entry):
                    found.append(path)
                elif entry.name == _OF_A_RUN and inside:
                    self.runs.append(inside[:-1])
                    return
                else:
                    others[os.path.splitext(entry.name)[1].lower()] += 1
        self.others += others
        for path in sorted(found):
            if not path.endswith(b"/"):
                yield path
            elif path in linked or is_elsewhere:
                real = os.path.realpath(os.path.join(self._folder, path))
                if self._is_read(real):
                    self.links.append(path[:-1])
                else:
                    self._elsewhere.add(real)
                    yield from self.images(path, is_elsewhere=True)
            else:
                yield from self.images(path)

    def _is_read(self, real: bytes) -> bool:
        """Returns True if a linked folder is already part of the walk, or contains the whole tree."""
        if real in self._elsewhere or os.path.commonpath([real, self._root]) == real:
            return True
        inside = os.path.relpath(real, self._root).split(b"/")
        return inside[0] != b".." and not any(map(is_hidden, inside))


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # A link to itself.
        return False


def _is_file_or_link(entry: os.DirEntry[bytes]) -> bool:
    """Returns False for named pipes and the like, which block a reader; links that lead nowhere are True."""
    return entry.is_symlink() or entry.is_file()


def find_image(folder: str | os.PathLike, stem: str) -> pathlib.Path:
    """Finds the image with a given name, whatever its ending.

    Args:
        folder: folder of the image.
        stem: path below the folder, without the ending.

    Returns:
        The image; if there is none, the path with the first of `IMAGE_EXTENSIONS`.

    Raises:
        ValueError: if there are several such images, or the name already has an ending.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.data.sources.folder import find_image

        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "a b.png").touch()
            assert find_image(folder, "a b").name == "a b.png"
        ```
    """
    endings = (ending for one in IMAGE_EXTENSIONS for ending in (one, one.upper()))
    paths = [pathlib.Path(folder, f"{stem}{ending}") for ending in endings]
    present = [path for path in paths if path.exists()]
    if len(present) > 1 and not present[0].samefile(present[1]):
        raise ValueError(f"{present[0]} and {present[1]} have the same name; remove one of them")
    if (
        not present
        and stem.lower().endswith(IMAGE_EXTENSIONS)
        and os.path.exists(os.path.join(folder, stem))
    ):
        raise ValueError(f"the name {stem!r} in a list of images must be without its ending")
    return present[0] if present else paths[0]


def number_classes(folders: Iterable[bytes]) -> dict[bytes, int]:
    """Assigns class numbers to folders of images, in byte order.

    This is the usual layout of labeled images: one folder per class and nothing else. With nested
    folders, or images next to folders, there are no classes and the result is empty. The log warns of
    different names that look alike.

    Args:
        folders: paths relative to the root of the images; repetitions are allowed.

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
    warn_of_lookalikes(map(os.fsdecode, names))
    return {name: number for number, name in enumerate(names)}


def open_folder(specification: str, folder: str, data_dir: str | None = None) -> Source:
    """Opens all images of a folder; the subfolders are their classes.

    Args:
        specification: name of the source.
        folder: path of the folder.
        data_dir: not used.

    Raises:
        ValueError: if it is not a folder, cannot be read or contains no image.
    """
    del data_dir
    find_folder(folder)
    root = os.fsencode(os.path.expanduser(folder))
    # Millions of paths are stored as one string and offsets, not as objects.
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
    names = fingerprint([bytes(paths), ends.tobytes()])
    sizes = size_fingerprint(describe, len(owners))
    return Source(specification, len(owners), read, describe, class_names, names, sizes)
