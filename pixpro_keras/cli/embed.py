r"""Feature vectors or maps of images by a frozen backbone, in a file.

pixpro-embed --weights=runs/mine --dataset=folder:PATH --image_size=224 --output=features.npz

Writes `.npz` (arrays `features`, `names`, `labels`) or `.parquet` (the same columns). It is written
in parts, so that memory does not grow with the number of images, and the same command continues an
interrupted job.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras import backbones
from pixpro_keras.backbones.levels import level_network
from pixpro_keras.cli.options.cluster_options import DeviceOptions, make_devices
from pixpro_keras.cli.options.evaluation_options import (
    EvaluatedBackbone,
    EvaluationOptions,
    check_finite,
    check_one_machine,
    read_backbone,
)
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.option_fields import FlagError, option, without_effect
from pixpro_keras.cli.options.run_options import resolve_precision
from pixpro_keras.cli.shared import command
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.labels import select
from pixpro_keras.data.sources import Source, open_source
from pixpro_keras.evaluation.features import IMAGE, INDEX, LABEL, image_batches
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.training.workdir import open_workdir
from pixpro_keras.types import Tensor
from pixpro_keras.utils.bars import open_bar
from pixpro_keras.utils.files import write_atomically

_SUFFIXES = (".npz", ".parquet")
_COLUMNS = ("features", "names", "labels")
_RECIPE = "recipe.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbedOptions(EvaluationOptions, DeviceOptions):
    """Options of the features."""

    dataset: str = option(
        None, "Images: any source of pixpro-pretrain, with or without labels.", is_required=True
    )
    output: str = option(
        None,
        "File of the features: .npz or .parquet.",
        is_required=True,
        check=lambda value: pathlib.PurePath(value).suffix in _SUFFIXES,
        must=f"end in {' or '.join(_SUFFIXES)}",
    )
    features: str = option(
        "pooled",
        "pooled: one vector per image, the mean of its last map. map: the map of --level, (h, w, C).",
        choices=("pooled", "map"),
    )
    level: str = option("c5", "Map of --features=map.", choices=("c2", "c3", "c4", "c5"))
    batch_size: int = option(64, "Images per forward pass of the backbone.", above=0)
    part_size: int = option(
        4096,
        "Images per part of the file. One part is held in memory; finished parts are not computed again.",
        above=0,
    )
    bn_momentum: float = without_effect(
        EvaluationOptions, "bn_momentum", "inference changes no statistics of batch norm"
    )
    label_fraction: float = without_effect(
        EvaluationOptions, "label_fraction", "features need no labels"
    )
    workdir: str = without_effect(DeviceOptions, "workdir", "the file is --output")


def run(options: EmbedOptions) -> None:
    """Computes the parts that are missing, and joins all of them."""
    if options.is_given("level") and options.features == "pooled":
        raise FlagError(
            f"--level={options.level}: pooled features are of the last map; --features=map takes maps"
        )
    refuse_unused(options)
    options = resolve_precision(options)
    keras.mixed_precision.set_global_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    strategy = make_devices(options)
    check_one_machine(strategy, options.strategy, "embed.py")
    with strategy.scope():
        backbone, options = read_backbone(options)
    with flag_errors(options, "level", "features"):
        if options.features == "pooled":
            network = backbones.feature_network(backbone.network, "pooled")
        else:
            network = level_network(backbone.network, options.level)
    with flag_errors(options, "dataset"):
        source = open_source(options.dataset, data_dir=options.data_dir)
    output = pathlib.Path(options.output).expanduser()
    with flag_errors(options, "output"):
        images = _images_digest(source, is_text=output.suffix == ".parquet")
    parts = output.with_name(f"{output.name}.parts")
    with flag_errors(options, "output"), open_workdir(parts):
        _check_recipe(parts, _recipe(options, backbone, images))
        files = compute_parts(options, source, network, backbone, parts, strategy)
        shape = join_parts(files, output)
        shutil.rmtree(parts)
    print(f"{output}: {options.features} features of {shape[0]} images, {shape[1:]} each")


def _images_digest(source: Source, is_text: bool) -> str:
    """SHA-256 of the images' names and, where they are files, of their sizes and times of change.

    Images in records count by the places and lengths of these.

    Args:
        source: the images.
        is_text: whether the names are written as UTF-8, which names of files need not be.

    Raises:
        ValueError: naming an image whose name cannot be written.
    """
    digest = hashlib.sha256(source.fingerprint.encode())
    for index in range(source.num_examples):
        name = source.describe(index)
        try:
            digest.update(name.encode(errors="strict" if is_text else "surrogateescape") + b"\0")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the name of the image {name!r} is not UTF-8, as .parquet needs it; .npz takes any name"
            ) from error
        with contextlib.suppress(OSError):  # Images in records have no path.
            status = os.stat(name)
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _recipe(options: EmbedOptions, backbone: EvaluatedBackbone, images: str) -> dict:
    """Values that must be equal in two runs that share parts."""
    names = (
        "dataset",
        "features",
        "level",
        "image_size",
        "output_stride",
        "part_size",
        "precision",
    )
    recipe = {name: getattr(options, name) for name in names}
    return recipe | {"weights": backbones.weights_digest(backbone.network), "images": images}


def _check_recipe(folder: pathlib.Path, recipe: dict) -> None:
    """Checks that the parts in a folder belong to this job, and notes its recipe there.

    Raises:
        ValueError: if they were computed from other images or weights.
    """
    file = folder / _RECIPE
    if file.exists():
        before = json.loads(file.read_text())
        changed = [name for name in recipe if before.get(name) != recipe[name]]
        if changed:
            raise ValueError(
                f"{folder} holds parts with other {', '.join(changed)}; delete it, or take another --output"
            )
    write_atomically(file, json.dumps(recipe, indent=2).encode())


def compute_parts(
    options: EmbedOptions,
    source: Source,
    network: keras.Model,
    backbone: EvaluatedBackbone,
    folder: pathlib.Path,
    strategy: tf.distribute.Strategy,
) -> list[pathlib.Path]:
    """Computes the missing parts.

    Args:
        options: resolved.
        source: the images.
        network: from images to features.
        backbone: the backbone, for its input convention.
        folder: folder of the parts.
        strategy: devices that share the work.

    Returns:
        Files of all parts, in order.

    Raises:
        BrokenImagesError: if too many images cannot be decoded.
        FlagError: if features are not finite.
    """

    def features(images: Tensor) -> Tensor:
        return keras.ops.cast(network(images, training=False), "float32")

    def taken(indices: np.ndarray, batch: Mapping[str, Tensor]) -> np.ndarray:
        return indices[batch[INDEX].numpy()]

    spread = over_replicas(features, options.batch_size, strategy)
    files = []
    broken = BrokenImages(source, options.max_broken_share)
    with open_bar(desc="features", total=source.num_examples, unit=" images", delay=1) as bar:
        for first in range(0, source.num_examples, options.part_size):
            file = folder / f"{first:012}.npz"
            files.append(file)
            indices = np.arange(first, min(first + options.part_size, source.num_examples))
            if file.exists():
                for index in _left_out(source, indices, file):
                    broken.report(index, is_last=False)
            else:
                part = select(source, indices)
                batches = image_batches(
                    part,
                    options.image_size,
                    backbone.preprocess,
                    options.batch_size,
                    pass_over_broken=True,
                )
                watched = broken.watch(batches, functools.partial(taken, indices), indices.tolist())
                rows = [
                    (spread(one[IMAGE]), one[INDEX].numpy(), one[LABEL].numpy()) for one in watched
                ]
                for values, *_ in rows:
                    check_finite(options, values, source.name)
                _write_part(file, part, rows)
            bar.update(len(indices))
    return files


def _left_out(source: Source, indices: np.ndarray, file: pathlib.Path) -> list[int]:
    """Indices of the images that a finished part does not hold."""
    with np.load(file) as stored:
        names = set(stored["names"].tolist())
    return [index for index in indices.tolist() if source.describe(index) not in names]


def _write_part(
    file: pathlib.Path, source: Source, rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    if not rows:
        return  # all of its images are broken
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    names = np.array([source.describe(int(index)) for index in columns[1]])
    partial = file.with_suffix(".partial")
    with open(partial, "wb") as out:
        np.savez(out, features=columns[0], names=names, labels=columns[2].astype(np.int32))
    os.replace(partial, file)


def join_parts(files: Sequence[pathlib.Path], output: pathlib.Path) -> tuple[int, ...]:
    """Joins parts to one file, one part in memory at a time. Returns the shape of its features.

    Args:
        files: files of the parts, in order. A part without a readable image has none.
        output: `.npz` or `.parquet`.

    Raises:
        ValueError: if no image could be read.
    """
    files = [file for file in files if file.exists()]
    if not files:
        raise ValueError("no image could be read")
    partial = output.with_name(f".{output.name}.partial")
    join = _join_npz if output.suffix == ".npz" else _join_parquet
    try:
        shape = join(files, partial)
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)
    return shape


def _join_npz(files: Sequence[pathlib.Path], output: pathlib.Path) -> tuple[int, ...]:
    joined = {}
    with zipfile.ZipFile(output, "w", allowZip64=True) as archive:
        for column in _COLUMNS:
            shapes = [(part.shape, part.dtype) for part in _parts(files, column)]
            joined[column] = (sum(shape[0] for shape, _ in shapes), *shapes[0][0][1:])
            kind = np.result_type(*(kind for _, kind in shapes))  # the longest name
            header = {
                "descr": np.lib.format.dtype_to_descr(kind),
                "fortran_order": False,
                "shape": joined[column],
            }
            with archive.open(f"{column}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_2_0(member, header)
                for part in _parts(files, column):
                    member.write(np.ascontiguousarray(part, kind).tobytes())
    return joined["features"]


def _join_parquet(files: Sequence[pathlib.Path], output: pathlib.Path) -> tuple[int, ...]:
    import pyarrow
    import pyarrow.parquet

    first = next(_parts(files, "features"))
    size = int(np.prod(first.shape[1:]))
    schema = pyarrow.schema(
        [
            ("features", pyarrow.list_(pyarrow.float32(), size)),
            ("names", pyarrow.string()),
            ("labels", pyarrow.int32()),
        ],
        metadata={"shape": json.dumps(first.shape[1:])},
    )
    count = 0
    with pyarrow.parquet.ParquetWriter(output, schema) as writer:
        columns = (_parts(files, column) for column in _COLUMNS)
        for features, names, labels in zip(*columns, strict=True):
            flat = pyarrow.array(features.reshape(-1))
            arrays = [
                pyarrow.FixedSizeListArray.from_arrays(flat, size),
                pyarrow.array(names.tolist(), pyarrow.string()),
                pyarrow.array(labels, pyarrow.int32()),
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(labels)
    return (count, *first.shape[1:])


def _parts(files: Sequence[pathlib.Path], column: str) -> Iterator[np.ndarray]:
    for file in files:
        with np.load(file) as part:
            yield part[column]


def main() -> None:
    """Runs the command."""
    command.run(EmbedOptions, run, __doc__ or "")
