"""The model card beside exported weights, in the form that Hugging Face reads."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from pixpro_keras import backbones
from pixpro_keras.backbones import network_files
from pixpro_keras.backbones.levels import map_strides
from pixpro_keras.utils.checksums import SUMS_FILE, read_manifest
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.utils.markdown import markdown_table
from pixpro_keras.weights.export import usage_by_file

CARD_FILE = "README.md"
# Hugging Face's term for an unknown license.
UNKNOWN_LICENSE = "unknown"
_TAGS = ("keras", "tensorflow", "self-supervised-learning", "backbone", "pixpro_keras")


def write_card(
    directory: str | os.PathLike,
    name: str,
    *,
    title: str,
    facts: Mapping[str, object],
    metrics: Mapping[str, float] | None = None,
    flags: Sequence[str] = (),
    license_name: str = UNKNOWN_LICENSE,
) -> pathlib.Path:
    """Writes `README.md`: origin, input convention, loading code and checksums of the weights.

    Args:
        directory: folder of an export; its `SHA256SUMS` lists the files.
        name: name of the backbone.
        title: heading of the card.
        facts: further rows of the first table.
        metrics: name -> last logged value.
        flags: command line of the run.
        license_name: Hugging Face's identifier of the license, such as `apache-2.0`.

    Returns:
        The file.

    Raises:
        ManifestError: if `SHA256SUMS` cannot be read.
        OSError: if the file cannot be written.

    Example:
        ```python
        import tempfile

        import pixpro_keras

        folder, name = tempfile.mkdtemp(), "resnet18_v1_5"
        pixpro_keras.export_backbone(pixpro_keras.backbones.build(name), name, folder)
        card = pixpro_keras.write_card(
            folder, name, title="My backbone", facts={"Data": "1000 photographs"}
        )
        print(card.read_text())
        ```
    """
    directory = pathlib.Path(directory)
    sums = read_manifest(directory / SUMS_FILE)
    present = {file.partition("/")[0] for file in sums}
    rows = {
        "Backbone": f"`{backbones.public_name(name)}`",
        "Input": backbones.input_convention(name),
        "Output": _output(name),
        **facts,
        "License of the weights": license_name,
    }
    loading = [
        f"- `{file}`: `{usage}`" for file, usage in usage_by_file(name).items() if file in present
    ]
    parts = [
        _front_matter(license_name),
        f"# {title}",
        markdown_table(("", ""), rows.items()),
        "## How to load it",
        "Without pixpro_keras, in this folder:",
        "\n".join(loading),
        'With pixpro_keras: `pixpro_keras.load_backbone(".")`, or with `features="c2-c5"` for the maps of '
        "four stages.",
    ]
    if metrics:
        values = {key: f"{value:.6g}" for key, value in sorted(metrics.items())}
        parts += ["## Last metrics of the training", markdown_table(("", ""), values.items())]
    if flags:
        parts += [
            "## Flags",
            "All flags of the run, without the paths of its files:",
            "```\n" + "\n".join(flags) + "\n```",
        ]
    checksums = {f"`{file}`": f"`{checksum}`" for file, checksum in sorted(sums.items())}
    parts += ["## Files", markdown_table(("File", "sha256"), checksums.items())]
    path = directory / CARD_FILE
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())
    return path


def _output(name: str) -> str:
    """The map that is exported, with its stride where that is a whole number."""
    stride: int | None = 32  # Of every network that has a name.
    if network_files.is_file(name):
        (stride,) = map_strides(network_files.backbone_in(name))
    return "C5: the last feature map" + (f", stride {stride}" if stride else "")


def _front_matter(license_name: str) -> str:
    tags = "\n".join(f"- {tag}" for tag in _TAGS)
    return (
        f"---\nlibrary_name: keras\nlicense: {license_name}\n"
        f"pipeline_tag: image-feature-extraction\ntags:\n{tags}\n---"
    )
