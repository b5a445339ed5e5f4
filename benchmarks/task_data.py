"""Cases of `peer_ratios.py` and their inputs, equal in all processes."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Step = Callable[[int], float]

# Case -> function of both workers that makes its step, and arguments of that function.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "knn": ("knn", {}),
    "linear_probe": ("linear_probe", {"heads": 1}),
    "linear_probe_6": ("linear_probe", {"heads": 6}),
    "fcn_training": ("fcn", {"is_training": True}),
    "fcn_inference": ("fcn", {"is_training": False}),
    "mask_rcnn_fpn_training": ("detector", {"name": "mask_rcnn_fpn", "is_training": True}),
    "mask_rcnn_fpn_inference": ("detector", {"name": "mask_rcnn_fpn", "is_training": False}),
    "faster_rcnn_c4_training": ("detector", {"name": "faster_rcnn_c4", "is_training": True}),
    "faster_rcnn_c4_inference": ("detector", {"name": "faster_rcnn_c4", "is_training": False}),
    "paste": ("paste", {}),
    "detection_input": ("detection_input", {"with_masks": False}),
    "detection_input_masks": ("detection_input", {"with_masks": True}),
}

NUM_CLASSES, K, T = 100, 20, 0.07
PROBE_BATCH, LEARNING_RATE = 256, 0.1
# With 10 classes, untrained heads score above the threshold of 0.05 and make 100 detections.
FCN_CLASSES, DETECTION_CLASSES = 19, 10
NUM_OBJECTS = 10
SHORT_SIDES, MAX_SIDE = (640, 672, 704, 736, 768, 800), 1333
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def parse() -> argparse.Namespace:
    """Parses the arguments of a worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=sorted(CASES), required=True)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--coco", help="folder of a COCO set with masks")
    parser.add_argument("--coco_split", default="train2017")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--weights", help=".npz of a detector's weights; our worker writes it")
    parser.add_argument("--crop_size", type=int, default=256)
    return parser.parse_args()


def make_step(options: argparse.Namespace, *functions: Callable[..., Step]) -> Step:
    """Makes the step of a worker's case.

    Args:
        options: result of `parse`.
        *functions: functions of the worker, with the names in `CASES`.
    """
    name, arguments = CASES[options.case]
    return {one.__name__: one for one in functions}[name](options, **arguments)


def features() -> tuple[Array, Array, Array]:
    """20,000 training features `(N, 512)`, their labels, and 5,000 queries."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(NUM_CLASSES, 512))
    labels = rng.integers(0, NUM_CLASSES, 20_000)

    def near(classes: Array) -> Array:
        noise = rng.normal(size=(len(classes), 512))
        return (centers[classes] + 12 * noise).astype("float32")

    return near(labels), labels, near(rng.integers(0, NUM_CLASSES, 5000))


def segmentation(options: argparse.Namespace) -> tuple[Array, Array]:
    """Four crops `(4, S, S, 3)` and their classes."""
    rng = np.random.default_rng(0)
    shape = (4, options.crop_size, options.crop_size)
    images = rng.normal(size=(*shape, 3)).astype("float32")
    return images, rng.integers(0, FCN_CLASSES, shape).astype("int32")


def detection(options: argparse.Namespace) -> tuple[Array, Array, Array]:
    """An image `(1, H, W, 3)`, boxes `(M, 4)` and their classes."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, options.height, options.width, 3)).astype("float32")
    corners = rng.uniform(0, 0.6, (NUM_OBJECTS, 2))
    ends = corners + rng.uniform(0.05, 0.4, corners.shape)
    boxes = np.concatenate([corners, ends], axis=1) * ([options.width, options.height] * 2)
    return images, boxes.astype("float32"), rng.integers(0, DETECTION_CLASSES, NUM_OBJECTS)


def predicted_masks() -> tuple[Array, Array, tuple[int, int]]:
    """20 masks `(28, 28)` of probabilities, their boxes, and the height and width of the image."""
    rng = np.random.default_rng(0)
    height, width = 1080, 1920
    y, x = np.mgrid[:28, :28]
    masks = 1 / (1 + np.exp((x - 14) ** 2 + (y - 14) ** 2 - rng.uniform(60, 150, (20, 1, 1))))
    corners = rng.uniform(0, 0.6, (20, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.4, (20, 2))], axis=1)
    return (
        masks.astype("float32"),
        (boxes * ([width, height] * 2)).astype("float32"),
        (height, width),
    )
