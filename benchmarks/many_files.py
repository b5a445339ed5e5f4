"""Time and memory for listing a folder of many images, and time of its first batches.

python benchmarks/many_files.py --num_files=200000

The images are tiny and lie in folders of a thousand, so that the cost per file is measured.
"""

import pathlib
import resource
import tempfile
import time

import pixpro_keras  # noqa: F401  # isort: skip
import numpy as np
import tensorflow as tf
from absl import app, flags

from pixpro_keras.data import pipeline, sources

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_files", 200_000, "Number of images.", 1000)
flags.DEFINE_integer("batch_size", 256, "Images per batch.", 1)


def memory_mib() -> float:
    """Resident memory of this process in MiB."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def write_files(folder: pathlib.Path, first: int, end: int) -> None:
    """Writes images `first` to `end - 1`."""
    encoded = tf.io.encode_jpeg(np.full((8, 8, 3), 128, np.uint8)).numpy()
    for number in range(first, end):
        directory = folder / f"class_{number // 1000:05d}"
        directory.mkdir(exist_ok=True)
        (directory / f"image_{number:010d}.jpg").write_bytes(encoded)


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    print("| files | listing | memory | per file | first batch | second batch |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder, written = pathlib.Path(name), 0
        config = pipeline.DataConfig(image_size=32)
        for num_files in (1000, FLAGS.num_files // 4, FLAGS.num_files):
            write_files(folder, written, num_files)
            written = num_files
            before, started = memory_mib(), time.perf_counter()
            source = sources.open_source(f"folder:{folder}")
            listed, grown = time.perf_counter() - started, memory_mib() - before
            data = pipeline.make_dataset(source, config, global_batch_size=FLAGS.batch_size)
            times = []
            iterator = iter(data)
            for _ in range(2):
                started = time.perf_counter()
                next(iterator)
                times.append(time.perf_counter() - started)
            print(
                f"| {num_files} | {listed:.2f} s | {grown:.1f} MiB | "
                f"{grown * 2**20 / num_files:.0f} bytes | {times[0]:.2f} s | {times[1]:.2f} s |",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
