"""Images with boxes, and masks where there are any: the form of all data sets of detection."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.detection import instance_masks
from pixpro_keras.types import Tensor

# Metrics by which a data set is judged.
COCO, VOC07, VOC12 = "coco", "voc07", "voc12"
# Annotations are rounded; what is farther outside is an error of whoever wrote them.
_TOLERANCE = 2.0


@dataclasses.dataclass(frozen=True)
class Objects:
    """Objects of an image.

    Attributes:
        boxes: `(n, 4)` float32. `x1, y1, x2, y2` in pixels; the image's first corner is (0, 0).
        classes: `(n,)` int32, from 0.
        is_ignored: `(n,)` booleans: crowds of COCO, difficult objects of VOC. They are not trained on,
            and found or not, they do not count.
        areas: `(n,)` float32, in square pixels: of the mask where there is one.
        segmentations: COCO polygons or RLE of each object; None without masks.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection import Objects

        box = np.array([[10.0, 20.0, 50.0, 60.0]], np.float32)
        objects = Objects(box, np.array([0]), np.array([False]), np.array([1600.0], np.float32))
        ```
    """

    boxes: np.ndarray
    classes: np.ndarray
    is_ignored: np.ndarray
    areas: np.ndarray
    segmentations: Sequence[Any] | None = None


@dataclasses.dataclass(frozen=True)
class BoxSource:
    """Encoded images by number, with their objects.

    Attributes:
        name: specification that opened the source.
        read: in a graph, scalar int64 index to encoded bytes.
        describe: index to a name for people.
        sizes: `(N, 2)` int32, height and width.
        objects: objects of each image.
        class_names: names of the classes 0, 1, ...
        image_ids: the data set's own name of each image.
        class_ids: the data set's own number of each class.
        metric: `COCO`, `VOC07` or `VOC12`.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf
        from pixpro_keras.detection.box_source import COCO, BoxSource, make_objects

        image = tf.io.encode_png(tf.zeros((40, 60, 3), tf.uint8)).numpy()
        source = BoxSource(
            "black",
            lambda index: tf.constant([image])[index],
            str,
            sizes=np.array([[40, 60]], np.int32),
            objects=[make_objects("black", (40, 60), [[0, 0, 9, 9]], [0], [False])],
            class_names=("corner",),
            image_ids=[1],
            class_ids=[1],
            metric=COCO,
        )
        assert source.num_examples == 1 and not source.has_masks
        ```
    """

    name: str
    read: Callable[[Tensor], Tensor]
    describe: Callable[[int], str]
    sizes: np.ndarray
    objects: Sequence[Objects]
    class_names: tuple[str, ...]
    image_ids: Sequence[int | str]
    class_ids: Sequence[int]
    metric: str

    @property
    def num_examples(self) -> int:
        """Number of images."""
        return len(self.objects)

    @property
    def has_masks(self) -> bool:
        """True if all objects have masks."""
        return all(one.segmentations is not None for one in self.objects)


def make_objects(
    describe: str,
    size: tuple[int, int],
    boxes: Any,
    classes: Any,
    is_ignored: Any,
    areas: Any = None,
    segmentations: Sequence[Any] | None = None,
) -> Objects:
    """Makes the objects of an image, checked and cut off at its border.

    Args:
        describe: name of the image in errors.
        size: height and width in pixels.
        boxes: n rows of `x1, y1, x2, y2`.
        classes: n class numbers.
        is_ignored: n booleans.
        areas: n areas; default: the boxes'.
        segmentations: n polygons or RLE, or None.

    Raises:
        ValueError: if a box is outside the image, its corners are the wrong way round, or a mask is
            not one of this image.

    Example:
        ```python
        from pixpro_keras.detection.box_source import make_objects

        objects = make_objects("a.jpg", (40, 60), [[-1, 0, 60, 40]], [0], [False])
        assert objects.boxes.tolist() == [[0, 0, 60, 40]]
        ```
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    is_outside = ~((boxes >= -_TOLERANCE) & (boxes <= limits + _TOLERANCE)).all(axis=1)  # NaN, too
    is_wrong = (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    for index in np.flatnonzero(is_outside | is_wrong):
        corners = ", ".join(f"{value:g}" for value in boxes[index])
        reason = "has its corners the wrong way round" if is_wrong[index] else "is outside"
        raise ValueError(f"a box of {describe} {reason}: {corners} in {width} x {height} pixels")
    for segmentation in segmentations or ():
        try:
            instance_masks.check(segmentation, height, width)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{describe}: {error}") from error
    boxes = np.clip(boxes, 0, limits)
    if areas is None:
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return Objects(
        boxes,
        np.asarray(classes, np.int32).reshape(-1),
        np.asarray(is_ignored, bool).reshape(-1),
        np.asarray(areas, np.float32).reshape(-1),
        segmentations,
    )


def for_training(source: BoxSource, with_masks: bool) -> BoxSource:
    """Leaves out ignored objects and boxes without area, and images that are then empty.

    Args:
        source: images with boxes.
        with_masks: if True, all objects must have masks.

    Raises:
        ValueError: if a mask is missing, or nothing is left.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf
        from pixpro_keras.detection.box_source import (
            COCO,
            BoxSource,
            for_training,
            make_objects,
        )

        objects = [
            make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False]),
            make_objects("b", (40, 60), [], [], []),
        ]
        sizes = np.array([[40, 60]] * 2, np.int32)
        source = BoxSource(
            "two", lambda index: b"", "ab".__getitem__, sizes, objects, ("corner",), [1, 2], [1], COCO
        )
        assert for_training(source, with_masks=False).num_examples == 1
        ```
    """
    objects, kept = [], []
    for index, one in enumerate(source.objects):
        if with_masks and one.segmentations is None:
            raise ValueError(f"{source.describe(index)} has no masks, which --model needs")
        keep = ~one.is_ignored & (np.diff(one.boxes.reshape(-1, 2, 2), axis=1) > 0).all((1, 2))
        if keep.any():
            kept.append(index)
            objects.append(_select(one, np.flatnonzero(keep)))
    if not kept:
        raise ValueError(f"{source.name} has no image with a box to learn from")
    if len(kept) < source.num_examples:
        number = source.num_examples - len(kept)
        logging.warning(
            "%d of %d images of %s have no box to learn from, such as %s; they are left out",
            number,
            source.num_examples,
            source.name,
            source.describe(min(set(range(source.num_examples)) - set(kept))),
        )
    indices = np.array(kept, np.int64)

    def read(index: Tensor) -> Tensor:
        return source.read(tf.constant(indices)[index])

    return dataclasses.replace(
        source,
        read=read,
        describe=lambda index: source.describe(kept[index]),
        sizes=source.sizes[indices],
        objects=objects,
        image_ids=[source.image_ids[index] for index in kept],
    )


def _select(objects: Objects, indices: np.ndarray) -> Objects:
    segmentations = objects.segmentations
    if segmentations is not None:
        segmentations = [segmentations[index] for index in indices]
    return Objects(
        objects.boxes[indices],
        objects.classes[indices],
        objects.is_ignored[indices],
        objects.areas[indices],
        segmentations,
    )
