"""Packs a folder of images into TFRecord files, with unchanged or shrunk images.

pixpro-make-tfrecords --input=photos --output=records/photos --num_shards=16 [--short_side=512]
pixpro-pretrain --dataset='tfrecord:records/photos-*.tfrecord' --workdir=runs/photos
"""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import random
import shlex
import signal
from collections.abc import Generator, Sequence

import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.shared import command
from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError
from pixpro_keras.data.decoding import decode, warn_of_small_ranges
from pixpro_keras.data.sources import Source, iterate_images, number_classes
from pixpro_keras.data.sources.tfrecord import (
    CLASS_NAMES,
    INCOMPLETE,
    escape_pattern,
    find_shards,
)
from pixpro_keras.types import Tensor
from pixpro_keras.utils.bars import open_bar

_NUM_LOOKED_AT = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecordOptions(Options):
    """Options of the TFRecord files."""

    input: str = option(None, "Folder of images, with or without subfolders.", is_required=True)
    output: str = option(
        None, "Prefix of the file names: OUTPUT-00000-of-00016.tfrecord.", is_required=True
    )
    num_shards: int = option(
        16, "Number of files; 100 to 200 MB per file is a good size.", minimum=1
    )
    short_side: int | None = option(
        None,
        "Shrink images with a longer short side to this many pixels, as JPEG of quality 95: large "
        "photographs are slow to decode. At least twice the --image_size of the training. Default: keep "
        "the image files unchanged.",
        minimum=1,
    )
    workers: int = option(os.cpu_count() or 1, "Number of processes.", minimum=1)
    shuffle_seed: int = option(0, "Seed of the order of the images over all files.")
    max_broken_share: float = option(
        0.01,
        "Largest fraction of images that cannot be decoded before the command stops; they are left out and "
        "named. A single one is always allowed, unless this is 0.",
        minimum=0,
        maximum=1,
    )


def shrink(content: bytes, image: Tensor, short_side: int) -> bytes:
    """Shrinks an image to a short side of at most `short_side` pixels.

    Args:
        content: an encoded image.
        image: the same, decoded.
        short_side: short side in pixels.

    Returns:
        JPEG of quality 95; or `content` itself if it is small enough.
    """
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return content
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = tf.image.resize(image, size, "bicubic", antialias=True)
    return tf.io.encode_jpeg(tf.saturate_cast(tf.round(small), tf.uint8), quality=95).numpy()


def write_shard(
    path: str,
    root: str,
    files: list[bytes],
    labels: list[int],
    short_side: int | None,
    class_names: Sequence[bytes] = (),
) -> tuple[int, list[bytes]]:
    """Writes one file under a temporary name, then renames it.

    Images that cannot be decoded are left out. Each record has the name of its class, for other programs; the
    first one has the names of all classes.

    Args:
        path: the file.
        root: folder that `files` are relative to.
        files: images.
        labels: class of each, -1 for none.
        short_side: see `shrink`; None keeps all bytes.
        class_names: names of the classes 0, 1, ... of all files.

    Returns:
        Number of written images, and those of `files` that could not be decoded.
    """
    temporary = path + INCOMPLETE
    num_written, broken = 0, []
    with tf.io.TFRecordWriter(temporary) as writer:
        for file, label in zip(files, labels, strict=True):
            try:
                content = pathlib.Path(root, os.fsdecode(file)).read_bytes()
                # In a training, such an image would have only the number of a record for a name.
                image = decode(content)
            except (OSError, tf.errors.OpError, UnicodeDecodeError):  # A message may quote bytes.
                broken.append(file)
                continue
            if short_side is not None:
                content = shrink(content, image, short_side)
            feature = {
                "image/encoded": _bytes([content]),
                "image/filename": _bytes([file]),
                "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            if class_names:
                feature["image/class/text"] = _bytes([class_names[label]])
                if not num_written:
                    feature[CLASS_NAMES] = _bytes(class_names)
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
            num_written += 1
    os.replace(temporary, path)
    return num_written, broken


def _bytes(values: Sequence[bytes]) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def run(options: RecordOptions) -> None:
    """Packs the images."""
    root = pathlib.Path(options.input).expanduser()
    output = pathlib.Path(options.output).expanduser()
    files = find_images(options, root, output)
    if options.short_side is not None:  # They become images of 8 bits.
        paths = [os.path.join(root, os.fsdecode(file)) for file in files]
        chosen = np.unique(np.linspace(0, len(paths) - 1, _NUM_LOOKED_AT).astype(int)).tolist()
        warn_of_small_ranges(
            lambda i: pathlib.Path(paths[i]).read_bytes(), paths.__getitem__, chosen
        )
    parents = [os.path.dirname(file) for file in files]
    numbers = number_classes(parents)
    labels = [numbers.get(parent, -1) for parent in parents]
    order = list(range(len(files)))
    random.Random(options.shuffle_seed).shuffle(order)
    count = f"{options.num_shards:05d}"
    with flag_errors(options, "output"):
        # Else an interruption would leave new files among old ones, which look like one packing.
        for old in find_shards(str(output)).get(count, []):
            os.remove(old)
    shards = [
        (
            f"{output}-{shard:05d}-of-{count}.tfrecord",
            os.fspath(root),
            [files[index] for index in order[shard :: options.num_shards]],
            [labels[index] for index in order[shard :: options.num_shards]],
            options.short_side,
            list(numbers),
        )
        for shard in range(options.num_shards)
    ]
    count_of_broken = _count_broken(options, root, files)
    numbers_of_files = {file: number for number, file in enumerate(files)}
    num_written = 0
    with flag_errors(options, "output"), open_bar(total=len(files), unit=" images") as bar:
        try:
            with contextlib.closing(write_shards(shards, options.workers)) as written:
                for num_images, broken in written:
                    num_written += num_images
                    for file in broken:
                        count_of_broken.report(numbers_of_files[file], is_last=False)
                        count_of_broken.check()
                    bar.update(num_images + len(broken))
        except BrokenImagesError:
            for path, *_ in shards:  # A packing that was refused must not look like a finished one.
                pathlib.Path(path).unlink(missing_ok=True)
            raise
        except concurrent.futures.BrokenExecutor as error:
            raise FlagError(
                f"--workers={options.workers}: the system ended a process, for lack of memory perhaps; fewer "
                "of them need less"
            ) from error
    dataset = shlex.quote(f"tfrecord:{escape_pattern(str(output))}-?????-of-{count}.tfrecord")
    num_broken = len(count_of_broken.names)
    left_out = f", {num_broken} left out" if num_broken else ""
    print(f"{num_written} images{left_out} in {len(shards)} files: --dataset={dataset}")


def _count_broken(
    options: RecordOptions, root: pathlib.Path, files: Sequence[bytes]
) -> BrokenImages:
    """Count of the images that cannot be decoded, by their index in `files`."""
    paths = [os.path.join(os.fsencode(root), file) for file in files]

    def read(index: Tensor) -> dict[str, Tensor]:
        return {"image": tf.io.read_file(paths[int(index)])}

    source = Source(options.input, len(paths), read, lambda index: os.fsdecode(paths[index]))
    return BrokenImages(source, options.max_broken_share)


def find_images(options: RecordOptions, root: pathlib.Path, output: pathlib.Path) -> list[bytes]:
    """Returns the paths of the images, relative to their folder, and creates the folder of the output.

    Raises:
        FlagError: if there are too few images, or the output cannot be written or would be ambiguous.
    """
    if not root.is_dir():
        raise FlagError(f"--input={options.input}: no such folder")
    if os.path.basename(options.output) in ("", ".", ".."):
        example = output / root.resolve().name
        raise FlagError(
            f"--output={options.output}: must end with the beginning of the files' names, such as {example}"
        )
    with flag_errors(options, "input"):
        files = list(iterate_images(os.fsencode(root)))
    if not files:
        raise FlagError(f"--input={options.input}: no image at any depth")
    if len(files) < options.num_shards:
        raise FlagError(f"--num_shards={options.num_shards}: there are only {len(files)} images")
    with flag_errors(options, "output"):
        output.parent.mkdir(parents=True, exist_ok=True)
    for count, shards in find_shards(str(output)).items():
        if count != f"{options.num_shards:05d}":
            raise FlagError(
                f"--num_shards={options.num_shards}: {shards[0]} is of a packing in {int(count)} files; "
                f"remove them, or choose another --output than {options.output}"
            )
    return files


def write_shards(
    shards: Sequence[tuple], num_workers: int
) -> Generator[tuple[int, list[bytes]], None, None]:
    """Writes files in parallel and yields the result of `write_shard` for each finished one.

    Args:
        shards: arguments of `write_shard` for each file.
        num_workers: number of processes.
    """
    # New interpreters, since forking a process with TensorFlow's threads can hang.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        num_workers,
        mp_context=context,
        # A Ctrl-C reaches all processes; this one ends the others, without a traceback of each.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        jobs = [pool.submit(write_shard, *shard) for shard in shards]
        try:
            for job in concurrent.futures.as_completed(jobs):
                yield job.result()
        except BaseException:
            # The error would be shown only after all other files had been written.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def main() -> None:
    """Runs the command."""
    command.run(RecordOptions, run, __doc__ or "")
