"""Checksums beside files, in the format of `sha256sum`, so that `sha256sum -c FILE` checks them too."""

import contextlib
import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator

from absl import logging

from pixpro_keras.utils.files import write_atomically

# Beside files that are handed on.
SUMS_FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
# A comment for `sha256sum`.
_ORIGIN = re.compile(r"# made from ([0-9a-f]{64})")
_CHUNK = 2**20


class ManifestError(ValueError):
    """A file that differs from its manifest, or an unreadable manifest."""


def write_manifest(manifest: str | os.PathLike, names: Iterable[str]) -> None:
    """Writes the checksums of files.

    Args:
        manifest: path of the file of checksums.
        names: paths of files, relative to the manifest's folder.

    Raises:
        OSError: if a file cannot be read or the manifest cannot be written.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.utils import check_files, read_manifest, write_manifest

        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "a.bin").write_bytes(b"abc")
        write_manifest(folder / "SHA256SUMS", ["a.bin"])
        assert list(read_manifest(folder / "SHA256SUMS")) == ["a.bin"]
        check_files(folder / "SHA256SUMS")  # raises if a file differs
        ```
    """
    manifest = pathlib.Path(manifest)
    _write(manifest, {name: file_sha256(manifest.parent / name) for name in names})


@contextlib.contextmanager
def listing(path: str | os.PathLike, origin: str | None = None) -> Iterator[None]:
    """Context that updates `SHA256SUMS` beside a file or folder after a write.

    In between it does not list the path, so that a crash leaves no checksum of an older content.

    Args:
        path: file or folder that is written inside.
        origin: SHA-256 of what the path is made from, such as a network's weights. Files beside it that
            were made from something else stay, but are no longer listed. Default: not compared.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.utils import check_listed, listing

        file = pathlib.Path(tempfile.mkdtemp()) / "a.bin"
        with listing(file):
            file.write_bytes(b"abc")
        check_listed(file)  # raises if the file differs
        ```
    """
    path = pathlib.Path(path)
    manifest = path.parent / SUMS_FILE
    sums: dict[str, str] = {}
    before: str | None = None
    try:
        sums, before = _read(manifest) if manifest.exists() else ({}, None)
    except ManifestError as error:
        logging.warning("%s; a new one is written", error)
    others = {n: s for n, s in sums.items() if n.partition("/")[0] != path.name}
    if others != sums:
        _write(manifest, others, before)
    try:
        yield
    except BaseException:
        if others != sums:  # A failed writer keeps the previous file.
            _write(manifest, sums, before)
        raise
    if origin is None:
        origin = before
    elif origin != before:
        others = {}
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    names = (file.relative_to(path.parent).as_posix() for file in files)
    _write(manifest, others | {name: file_sha256(path.parent / name) for name in names}, origin)


def check_listed(path: str | os.PathLike) -> None:
    """Compares a file with `SHA256SUMS` beside it, if that lists it; see `listing`.

    Args:
        path: path of the file.

    Raises:
        ManifestError: if it differs.
    """
    path = pathlib.Path(path)
    manifest = path.parent / SUMS_FILE
    if manifest.exists():
        check_files(manifest, [path.name])


def read_manifest(manifest: str | os.PathLike) -> dict[str, str]:
    """Reads the checksums of files; see `write_manifest`.

    Args:
        manifest: path of the file of checksums.

    Returns:
        Path of each file, relative to the manifest's folder -> its checksum.

    Raises:
        ManifestError: if it is not a manifest, or names files outside of its folder.
    """
    return _read(pathlib.Path(manifest))[0]


def _read(manifest: pathlib.Path) -> tuple[dict[str, str], str | None]:
    """Reads the checksums of files, and that of what they are made from; see `listing`."""
    try:
        text = manifest.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise ManifestError(f"{manifest} cannot be read: {error}") from error
    sums = {}
    origin: str | None = None
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if number == 1 and (match := _ORIGIN.fullmatch(line)):
            origin = match[1]
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ManifestError(f"{manifest} is damaged: line {number} is not a checksum of a file")
        name = pathlib.PurePosixPath(match[2])
        if name.is_absolute() or ".." in name.parts or "\0" in match[2]:
            raise ManifestError(f"{manifest} names {match[2]!r}, which is not below its folder")
        sums[match[2]] = match[1]
    if text and not text.endswith("\n"):
        raise ManifestError(f"{manifest} is truncated")
    return sums, origin


def check_files(manifest: str | os.PathLike, names: Iterable[str] | None = None) -> None:
    """Compares files with their checksums; see `write_manifest`.

    Args:
        manifest: path of the file of checksums.
        names: paths of the files that are compared, where they are listed; default: all.

    Raises:
        ManifestError: naming the first file that is missing or differs.
    """
    manifest = pathlib.Path(manifest)
    sums = read_manifest(manifest)
    for name in sums if names is None else names:
        if name not in sums:
            continue
        file = manifest.parent / name
        try:
            found = file_sha256(file)
        except OSError as error:
            raise ManifestError(f"{file} cannot be read: {error.strerror}") from error
        if found != sums[name]:
            raise ManifestError(
                f"{file} is damaged, or was changed: its sha256 is not the one in {manifest}"
            )


def _write(manifest: pathlib.Path, sums: dict[str, str], origin: str | None = None) -> None:
    lines = f"# made from {origin}\n" if origin else ""
    lines += "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    write_atomically(manifest, lines.encode(errors="surrogateescape"))


def file_sha256(file: pathlib.Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
