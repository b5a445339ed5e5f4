"""Time of RoIAlign with one sample per cell of a bin, compared with 2 x 2 samples per bin.

python benchmarks/roi_align.py --height=800 --width=1088

Both are timed alternately in one process. Sides of the boxes are 2 to 100 % of the image's, uniform in the
logarithm.
"""

import statistics
import time
from collections.abc import Sequence

import pixpro_keras  # noqa: F401  # isort: skip
import numpy as np
import tensorflow as tf
from absl import app, flags

from pixpro_keras.detection.fpn_detector import assign_boxes_to_levels
from pixpro_keras.layers import pyramid_roi_align, roi_align
from pixpro_keras.types import Tensor

FLAGS = flags.FLAGS
flags.DEFINE_integer("height", 800, "Height of the image in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("width", 1088, "Width of the image in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("rounds", 5, "Timed calls of each version; the median is printed.", 1)

# Name -> strides of the maps in pixels, channels, number of boxes, bins per side.
_CASES = {
    "C4": ((16,), 1024, 256, 14),
    "FPN, boxes": ((4, 8, 16, 32), 256, 512, 7),
    "FPN, masks": ((4, 8, 16, 32), 256, 128, 14),
}


def two_samples(features: Sequence[Tensor], boxes: Tensor, levels: Tensor, bins: int) -> Tensor:
    """RoIAlign with the mean of 2 x 2 bilinear samples per bin: `(1, R, S, S, C)`."""
    sides = np.array([one.shape[1:3] for one in features], np.int32)
    firsts = np.cumsum([0, *sides.prod(axis=1)])[:-1].astype(np.int32)
    first, height, width = (tf.gather(x, levels[0])[:, None] for x in (firsts, *sides.T))
    flat = tf.concat([tf.reshape(one, (-1, one.shape[-1])) for one in features], axis=0)
    total = tf.zeros(())
    for sample in range(4):
        corners = []  # For each axis: two cell indices and their weights, each `(R, S)`.
        for axis, size, place in ((1, height, sample // 2), (0, width, sample % 2)):
            start, end = boxes[0, :, axis, None] - 0.5, boxes[0, :, axis + 2, None] - 0.5
            steps = (tf.range(bins, dtype=tf.float32) + (place + 0.5) / 2) / bins
            last = tf.cast(size - 1, tf.float32)
            at = tf.clip_by_value(start + steps * (end - start), 0.0, last)
            low = tf.floor(at)
            cells = [tf.cast(low, tf.int32), tf.cast(tf.minimum(low + 1, last), tf.int32)]
            corners.append(list(zip(cells, (1 + low - at, at - low), strict=True)))
        for y, y_weight in corners[0]:
            for x, x_weight in corners[1]:
                cells = first[..., None] + y[:, :, None] * width[..., None] + x[:, None, :]
                weight = y_weight[:, :, None] * x_weight[:, None, :]
                total += tf.gather(flat, cells) * weight[..., None] / 4
    return total[None]


def measure(name: str) -> None:
    """Measures a case and prints its row of the table."""
    strides, channels, num_boxes, bins = _CASES[name]
    rng = np.random.default_rng(0)
    size = np.array([FLAGS.width, FLAGS.height])
    sides = np.exp(rng.uniform(np.log(0.02), 0, (num_boxes, 2))) * size
    corner = rng.uniform(0, 1, (num_boxes, 2)) * (size - sides)
    boxes = tf.constant(np.concatenate([corner, corner + sides], 1)[None], tf.float32)
    maps = [
        tf.constant(rng.normal(size=(1, size[1] // n, size[0] // n, channels)), tf.float32)
        for n in strides
    ]
    levels = tf.zeros((1, num_boxes), tf.int32)
    if len(strides) > 1:
        levels = assign_boxes_to_levels(boxes)
    cells = boxes / tf.gather(tf.constant(strides, tf.float32), levels)[..., None]

    def adaptive(maps):
        if len(maps) == 1:
            return roi_align(maps[0], cells, bins)
        return pyramid_roi_align(maps, cells, levels, bins)

    def fixed(maps):
        return two_samples(maps, cells, levels, bins)

    def backward(pool):
        def run(maps):
            with tf.GradientTape() as tape:
                tape.watch(maps)
                total = tf.reduce_sum(pool(maps) ** 2)
            return tape.gradient(total, maps)

        return run

    seconds = []
    for pools in ((fixed, adaptive), (backward(fixed), backward(adaptive))):
        calls = [tf.function(pool) for pool in pools]
        times: tuple[list[float], list[float]] = [], []
        for number in range(FLAGS.rounds + 1):
            for call, list_of_times in zip(calls, times, strict=True):
                started = time.process_time()
                tf.nest.map_structure(lambda x: x.numpy(), call(maps))
                if number:  # The first call traces.
                    list_of_times.append(time.process_time() - started)
        seconds.append([statistics.median(one) for one in times])
    columns = [f"{a:.2f}, {b:.2f}, {b / a:.2f}" for a, b in seconds]
    print(f"| {name} | {' | '.join(columns)} |", flush=True)


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    print("| CPU-seconds: 2 x 2, one per cell, ratio | forward | forward and backward |")
    print("|---|---|---|")
    for name in _CASES:
        measure(name)


if __name__ == "__main__":
    app.run(main)
