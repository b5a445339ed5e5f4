"""Detections of a trained detector in the images of a source, and their COCO format."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.transforms.resize import resize_bilinear
from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_pipeline import (
    decode_image,
    pad_image,
    scaled_size,
)
from pixpro_keras.detection.box_source import BoxSource
from pixpro_keras.detection.canvases import plan_canvases
from pixpro_keras.types import Tensor
from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning

Detect = Callable[[Tensor, Tensor], dict[str, Tensor]]


@dataclasses.dataclass(frozen=True)
class Detections:
    """Detected objects of an image, by decreasing score.

    Attributes:
        boxes: `(n, 4)` float32, in pixels of the image.
        scores: `(n,)` float32 in [0, 1].
        classes: `(n,)` int32.
        segmentations: RLE of each object; None without masks.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import Detections

        boxes = np.array([[10.0, 10.0, 50.0, 40.0]], "float32")
        detections = Detections(boxes, np.array([0.9], "float32"), np.array([0]))
        ```
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    segmentations: Sequence[dict[str, Any]] | None = None


def detect_in_source(
    detect: Detect,
    source: BoxSource,
    preprocess: Callable[[Tensor], Tensor],
    short_side: int,
    max_side: int,
    num_canvases: int = 6,
    broken: BrokenImages | None = None,
) -> Iterator[tuple[int, np.ndarray, Detections]]:
    """Detects the objects in every image of a source, grouped by similar shape.

    Args:
        detect: `Detector.detect` in a `tf.function`, which may serve several calls of this function.
        source: images with boxes.
        preprocess: the backbone's input convention, of RGB images in 0..255.
        short_side: length in pixels to which the short side is scaled.
        max_side: largest length of the long side in pixels; it takes precedence over `short_side`.
        num_canvases: largest number of sizes to which images are padded, for each of which `detect` is
            traced.
        broken: count, from `box_pipeline.count_broken`, of images that cannot be decoded, which are
            skipped; without it, such an image raises an error.

    Yields:
        Index of the image, the image `(H, W, 3)` uint8, and its detections.

    Example:
        ```python
        import keras
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.detection import (
            BoxSource,
            C4Detector,
            DetectorConfig,
            Objects,
            detect_in_source,
        )

        inputs = x = keras.Input((None, None, 3))
        for _ in range(5):  # C1 to C5
            x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
        detector = C4Detector(keras.Model(inputs, x), DetectorConfig(num_classes=2))

        png = tf.io.encode_png(np.zeros((40, 60, 3), "uint8"))
        nothing = Objects(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool), np.zeros(0))
        source = BoxSource(
            name="black",
            read=lambda index: png,
            describe=str,
            sizes=np.array([[40, 60]], "int32"),
            objects=[nothing],
            class_names=("cat", "dog"),
            image_ids=[1],
            class_ids=[1, 2],
            metric="coco",
        )
        detect = tf.function(detector.detect)
        for index, image, detections in detect_in_source(detect, source, lambda x: x / 255, 64, 96):
            print(index, detections.boxes.shape)
        ```
    """
    canvases = plan_canvases(source.sizes, (short_side,), max_side, num_canvases)
    for group, (number,) in zip(canvases.groups, canvases.numbers, strict=True):
        padded_size = tuple(canvases.sizes[number].tolist())

        def load(index: Tensor, padded_size: tuple[int, int] = padded_size) -> tuple[Tensor, ...]:
            image = decode_image(source, index)
            size, scales = scaled_size(tf.shape(image)[:2], short_side, max_side)
            scaled = resize_bilinear(image, size)
            padded = tf.ensure_shape(pad_image(preprocess(scaled), padded_size), (*padded_size, 3))
            return index, image, padded, tf.cast(size, tf.float32), scales

        data = without_autotuning(tf.data.Dataset.from_tensor_slices(group.astype(np.int64)))
        data = data.map(load, num_parallel_calls=NUM_THREADS, deterministic=True)
        if broken is not None:
            data = data.ignore_errors()
        missing = set(group.tolist())
        for index, image, padded, size, scales in data.prefetch(2):
            missing.remove(int(index))
            outputs = detect(padded[None], size[None])
            arrays = {name: value[0].numpy() for name, value in outputs.items()}
            yield int(index), image.numpy(), _rescale(arrays, image.shape, scales.numpy())
        for number in sorted(missing):
            assert broken is not None
            broken.report(number, is_last=False)
            broken.check()


def _rescale(
    outputs: dict[str, np.ndarray], shape: Sequence[int], scales: np.ndarray
) -> Detections:
    """Converts boxes and masks to pixels of the original image."""
    count = int((outputs["scores"] > 0).sum())
    height, width = shape[:2]
    boxes = outputs["boxes"][:count] / scales[[1, 0, 1, 0]]
    segmentations = None
    if "masks" in outputs:
        pairs = zip(outputs["masks"][:count], boxes, strict=True)
        segmentations = [
            instance_masks.to_rle(instance_masks.paste(m, box, height, width)) for m, box in pairs
        ]
    return Detections(boxes, outputs["scores"][:count], outputs["classes"][:count], segmentations)


def to_coco_results(
    detections: Sequence[Detections], image_ids: Sequence, class_ids: Sequence[int]
) -> list[dict]:
    """Detections in COCO's results format, as its server takes them.

    Args:
        detections: detections of each image.
        image_ids: COCO's id of each image.
        class_ids: COCO's id of each class.

    Returns:
        A dict for each detected object.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import Detections, to_coco_results

        boxes = np.array([[10.0, 10.0, 50.0, 40.0]], "float32")
        detections = Detections(boxes, np.array([0.9], "float32"), np.array([0]))
        print(to_coco_results([detections], image_ids=[139], class_ids=[1]))
        ```
    """
    rows = []
    for image_id, one in zip(image_ids, detections, strict=True):
        sides = one.boxes[:, 2:] - one.boxes[:, :2]
        for index in range(len(one.boxes)):
            row = {
                "image_id": image_id,
                "category_id": int(class_ids[one.classes[index]]),
                "bbox": np.round([*one.boxes[index, :2], *sides[index]], 2).tolist(),
                "score": float(f"{one.scores[index]:.8g}"),  # Each float32 near 1 is different.
            }
            if one.segmentations is not None:
                row["segmentation"] = one.segmentations[index]
            rows.append(row)
    return rows
