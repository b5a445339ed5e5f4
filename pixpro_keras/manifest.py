"""Checksums beside files, in the format of `sha256sum`, so that `sha256sum -c FILE` checks them too."""

import hashlib
import os
import pathlib
import re
from collections.abc import Iterable

from pixpro_keras.files import write_atomically

_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_CHUNK = 2**20


class ManifestError(ValueError):
    """A file is not what its manifest says, or there is no reading the manifest."""


def write_manifest(manifest: str | os.PathLike, names: Iterable[str], keep: bool = False) -> None:
    """Writes the checksums of files.

    Args:
        manifest: where to.
        names: paths of files, relative to the manifest's folder.
        keep: whether what an older manifest says of other files stays.

    Raises:
        OSError: if a file cannot be read or the manifest cannot be written.
    """
    manifest = pathlib.Path(manifest)
    sums = read_manifest(manifest) if keep and manifest.exists() else {}
    sums |= {name: _sha256(manifest.parent / name) for name in names}
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    write_atomically(manifest, lines.encode(errors="surrogateescape"))


def forget_files(manifest: str | os.PathLike, names: Iterable[str]) -> None:
    """Takes files that are about to change out of a manifest, if there is one.

    Names of folders stand for all files in them.
    """
    manifest = pathlib.Path(manifest)
    if not manifest.exists():
        return
    gone = tuple(names)
    sums = read_manifest(manifest)
    kept = {
        name: value
        for name, value in sums.items()
        if not any(name == one or name.startswith(f"{one}/") for one in gone)
    }
    if kept != sums:
        lines = "".join(f"{value}  {name}\n" for name, value in kept.items())
        write_atomically(manifest, lines.encode(errors="surrogateescape"))


def read_manifest(manifest: str | os.PathLike) -> dict[str, str]:
    """Path of each file, relative to the manifest's folder -> its checksum.

    Raises:
        ManifestError: if it is no manifest, or names files elsewhere than beside or below it.
    """
    manifest = pathlib.Path(manifest)
    try:
        text = manifest.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise ManifestError(f"{manifest} cannot be read: {error}") from error
    sums = {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ManifestError(f"{manifest} is damaged: line {number} is no checksum of a file")
        name = pathlib.PurePosixPath(match[2])
        if name.is_absolute() or ".." in name.parts or "\0" in match[2]:
            raise ManifestError(f"{manifest} names {match[2]!r}, which is not below its folder")
        sums[match[2]] = match[1]
    if not text.endswith("\n"):
        raise ManifestError(f"{manifest} is cut off")
    return sums


def check_files(manifest: str | os.PathLike, names: Iterable[str] | None = None) -> None:
    """Compares files with their checksums.

    Args:
        manifest: the checksums.
        names: of which files, where they are listed; default: all.

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
            found = _sha256(file)
        except OSError as error:
            raise ManifestError(f"{file} cannot be read: {error.strerror}") from error
        if found != sums[name]:
            raise ManifestError(f"{file} is damaged: its sha256 is not the one in {manifest.name}")


def _sha256(file: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
