"""Share of padding in the training images of detectors, for several numbers of canvases and for detectron2.

python benchmarks/padding.py --dataset=voc:PATH --split=2007_train --short_sides=288,320,352 --max_side=480
python benchmarks/padding.py --simulate=coco --short_sides=640,672,704,736,768,800

detectron2 puts two wide or two tall images on an accelerator, each with its own random scale, and pads both
to the larger height and the larger width.
"""

import pixpro_keras  # noqa: F401  # isort: skip
import numpy as np
from absl import app, flags

from pixpro_keras.detection.canvases import plan_canvases, scaled_sides
from pixpro_keras.detection.datasets import open_boxes

# Approximate width, height and share in percent of the most common sizes.
_COMMONEST = {
    "coco": (
        (640, 480, 28),
        (640, 427, 15.6),
        (480, 640, 8.5),
        (640, 426, 7.5),
        (427, 640, 4.2),
        (640, 428, 3.8),
        (500, 375, 2.4),
        (426, 640, 2.1),
        (640, 425, 2),
        (612, 612, 1.8),
        (640, 424, 1.4),
        (640, 360, 1.2),
        (375, 500, 1),
        (640, 640, 1),
        (500, 333, 1),
        (428, 640, 1),
    ),
    "voc": (
        (500, 375, 47),
        (500, 333, 13),
        (375, 500, 12),
        (333, 500, 4),
        (500, 334, 3),
        (334, 500, 1),
        (500, 332, 1),
        (500, 281, 0.7),
        (500, 400, 0.5),
    ),
}
_NUM_IMAGES = 20_000

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, "Images and boxes, as for detect.py.")
flags.DEFINE_string("split", "train", "Split of the data set.")
flags.DEFINE_enum(
    "simulate", None, list(_COMMONEST), "Use random sizes with the shares of this data set."
)
flags.DEFINE_list("short_sides", [str(n) for n in range(480, 801, 32)], "As for detect.py.")
flags.DEFINE_integer("max_side", 1333, "As for detect.py.", 1)
flags.DEFINE_integer("batch_size", 16, "Images per batch.", 1)
flags.DEFINE_multi_integer("num_canvases", [2, 4, 6, 8, 12, 16], "Numbers of canvases to try.")


def simulated_sizes(name: str) -> np.ndarray:
    """Random heights and widths, `(N, 2)`, with the shares of a data set."""
    rng = np.random.default_rng(0)
    rows = np.array(_COMMONEST[name])
    shares = rows[:, 2] / 100
    chosen = rng.choice(len(rows) + 1, _NUM_IMAGES, p=[*shares, 1 - shares.sum()])
    longest = rows[0, 0]  # Other sizes have the same long side.
    short = np.where(
        rng.random(_NUM_IMAGES) < 0.3,
        rng.uniform(0.4, 1, _NUM_IMAGES),
        rng.normal(0.7, 0.06, _NUM_IMAGES).clip(0.4, 1),
    )
    other = np.stack([short * longest, np.full(_NUM_IMAGES, longest)], axis=1)
    is_high = rng.random(_NUM_IMAGES) < 0.28
    other[is_high] = other[is_high, ::-1]
    common = rows[np.minimum(chosen, len(rows) - 1), 1::-1]
    return np.where(chosen[:, None] < len(rows), common, other).astype(np.int32)


def padding_of_pairs(sizes: np.ndarray, short_sides: list[int], divisor: int) -> float:
    """Mean share of padding in detectron2's batches of two.

    Args:
        sizes: `(N, 2)`. Height and width in pixels.
        short_sides: scales.
        divisor: divisor of padded sizes: 32 for FPN, 1 for C4.
    """
    rng = np.random.default_rng(0)
    is_high = sizes[:, 0] > sizes[:, 1]
    shares = []
    for group in (sizes[is_high], sizes[~is_high]):
        count = len(group) * len(short_sides)
        scaled = np.concatenate([scaled_sides(group, n, FLAGS.max_side) for n in short_sides])
        pairs = scaled[rng.permutation(count)[: count // 2 * 2]].reshape(-1, 2, 2)
        padded = np.ceil(pairs.max(axis=1) / divisor).prod(axis=-1) * divisor**2
        shares.extend((1 - pairs.prod(axis=-1) / padded[:, None]).ravel())
    return float(np.mean(shares))


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    if FLAGS.simulate:
        sizes = simulated_sizes(FLAGS.simulate)
    else:
        sizes = open_boxes(FLAGS.dataset, FLAGS.split).sizes
    short_sides = [int(side) for side in FLAGS.short_sides]
    print("| num_canvases | traced shapes | padding |\n|---|---|---|")
    for number in FLAGS.num_canvases:
        plan = plan_canvases(sizes, short_sides, FLAGS.max_side, number, FLAGS.batch_size)
        print(f"| {number} | {len(plan.sizes)} | {plan.padding:.1%} |")
    for name, divisor in (("C4", 1), ("FPN", 32)):
        print(f"| detectron2, {name} | - | {padding_of_pairs(sizes, short_sides, divisor):.1%} |")


if __name__ == "__main__":
    app.run(main)
