"""Images with boxes, and masks where there are any: the form of all data sets of detection."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.detection import instance_masks
from pixpro_keras.types import Tensor

# Metrics of a data set.
COCO, VOC07, VOC12 = "coco", "voc07", "voc12"
# Tolerance for rounded annotations, in pixels; larger excess is an annotation error.
_TOLERANCE = 2.0


class Notes:
    """Counts of what a data set holds that is left out, or read in another way than it is given.

    Example:
        ```python
        from pixpro_keras.detection.box_source import Notes

        notes = Notes()
        notes.add("annotations of unknown images, left out", "annotation 7")
        notes.add("annotations of unknown images, left out", "annotation 9")
        assert str(notes) == "annotations of unknown images, left out: 2 (annotation 7, ...)"
        assert notes.counts == {"annotations of unknown images, left out": 2}
        ```
    """

    def __init__(self):
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._expected: set[str] = set()

    def add(self, kind: str, case: str, number: int = 1, *, is_expected: bool = False) -> None:
        """Counts cases of a kind.

        Args:
            kind: the cases in general, and what is done with them.
            case: name of the first of these cases.
            number: number of these cases.
            is_expected: whether sound data sets have them too.
        """
        self._first.setdefault(kind, case)
        self._counts[kind] = self._counts.get(kind, 0) + number
        if is_expected:
            self._expected.add(kind)

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of cases by kind."""
        return dict(self._counts)

    def copy(self) -> "Notes":
        """Copies the counts, so that more can be added."""
        copy = Notes()
        copy._first, copy._counts = dict(self._first), dict(self._counts)
        copy._expected = set(self._expected)
        return copy

    def log(self, name: str) -> None:
        """Logs all counts in one line, if there are any.

        Args:
            name: name of the data set.
        """
        if self._counts:
            level = logging.INFO if self._counts.keys() <= self._expected else logging.WARNING
            logging.log(level, "%s: %s", name, self)

    def __str__(self) -> str:
        parts = []
        for kind, count in self._counts.items():
            more = ", ..." if count > 1 else ""
            parts.append(f"{kind}: {count} ({self._first[kind]}{more})")
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class Objects:
    """Objects of an image.

    Attributes:
        boxes: `(n, 4)` float32. `x1, y1, x2, y2` in pixels; the image's upper left corner is (0, 0).
        classes: `(n,)` int32, from 0.
        is_ignored: `(n,)` booleans: crowds of COCO, difficult objects of VOC. In tests they do not
            count, detected or not. Difficult objects are trained on, crowds are not.
        areas: `(n,)` float32, in square pixels: of the mask where there is one.
        segmentations: COCO polygons or RLE of each object, an empty list for an object without a
            mask; None without masks.

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
        describe: index to a readable name.
        sizes: `(N, 2)` int32, height and width.
        objects: objects of each image.
        class_names: names of the classes 0, 1, ...
        image_ids: identifier of each image in the data set.
        class_ids: identifier of each class in the data set.
        metric: `COCO`, `VOC07` or `VOC12`.
        notes: counts of annotations that were ignored or changed.

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
    notes: Notes = dataclasses.field(default_factory=Notes)

    @property
    def num_examples(self) -> int:
        """Number of images."""
        return len(self.objects)

    @property
    def has_masks(self) -> bool:
        """True if objects have masks, though not necessarily all of them."""
        return any(any(one.segmentations or ()) for one in self.objects)


def make_objects(
    describe: str,
    size: tuple[int, int],
    boxes: Any,
    classes: Any,
    is_ignored: Any,
    areas: Any = None,
    segmentations: Sequence[Any] | None = None,
    *,
    names: Sequence[str] | None = None,
    clip_boxes: bool = False,
    notes: Notes | None = None,
) -> Objects:
    """Makes the objects of an image, checked and cut off at its border.

    Args:
        describe: name of the image in errors.
        size: height and width in pixels.
        boxes: n rows of `x1, y1, x2, y2`.
        classes: n class numbers.
        is_ignored: n booleans.
        areas: n areas; default: the boxes'.
        segmentations: n polygons or RLE, or None; an object without a mask has None or an empty list.
        names: names of the n objects in errors and notes; default: their numbers, from 1.
        clip_boxes: whether boxes that are far or mostly outside are cut off, and left out if nothing
            is inside.
        notes: counts to which what is left out or cut off is added.

    Raises:
        ValueError: if a box is far or mostly outside the image, its corners are in wrong order,
            or a mask is not one of this image, with the object's name.

    Example:
        ```python
        from pixpro_keras.detection.box_source import make_objects

        objects = make_objects("a.jpg", (40, 60), [[-1, 0, 60, 40]], [0], [False])
        assert objects.boxes.tolist() == [[0, 0, 60, 40]]
        ```
    """
    notes = Notes() if notes is None else notes
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    if names is None:
        names = [f"object {number + 1}" for number in range(len(boxes))]
    if segmentations is not None:
        segmentations = [
            _sound_mask(describe, name, segmentation, size, notes)
            for name, segmentation in zip(names, segmentations, strict=True)
        ]
        if segmentations and not any(segmentations):
            segmentations = None
    inside, keep = _inside(describe, size, boxes, names, clip_boxes, notes)
    if areas is None:
        areas = np.prod(inside[:, 2:] - inside[:, :2], axis=1)
    objects = Objects(
        inside,
        np.asarray(classes, np.int32).reshape(-1),
        np.asarray(is_ignored, bool).reshape(-1),
        np.asarray(areas, np.float32).reshape(-1),
        segmentations,
    )
    return objects if keep.all() else _select(objects, np.flatnonzero(keep))


def _sound_mask(
    describe: str, name: str, segmentation: Any, size: tuple[int, int], notes: Notes
) -> Any:
    """Checks a mask and returns it in drawable form: polygons without faults, or RLE. May be empty."""
    case = f"{name} of {describe}"
    try:
        mask, flat, short = instance_masks.sound(segmentation, *size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{describe}: {name}: {error}") from error
    if flat:
        notes.add("polygons that are not in a list of polygons, read as its only one", case)
    if short:
        notes.add("polygons of fewer than three points, left out", case, short)
    return mask


def _inside(
    describe: str,
    size: tuple[int, int],
    boxes: np.ndarray,
    names: Sequence[str],
    clip_boxes: bool,
    notes: Notes,
) -> tuple[np.ndarray, np.ndarray]:
    """Clips boxes to the image, and tells which of them to keep."""
    height, width = size
    limits = np.array([width, height, width, height], np.float32)
    clipped = np.clip(boxes, 0, limits)
    with np.errstate(all="ignore"):
        areas, areas_inside = (
            np.prod(one[:, 2:] - one[:, :2], axis=1, dtype=np.float64) for one in (boxes, clipped)
        )
    is_far = ((boxes < -_TOLERANCE) | (boxes > limits + _TOLERANCE)).any(axis=1)
    is_outside = is_far | (areas_inside < areas / 2)
    is_wrong = np.logical_or.reduce(boxes[:, 2:] < boxes[:, :2], axis=1)
    is_finite = np.logical_and.reduce(np.isfinite(boxes), axis=1)
    keep = np.ones(len(boxes), bool)
    for index in map(int, np.flatnonzero(is_outside | is_wrong | ~is_finite)):
        corners = ", ".join(f"{value:g}" for value in boxes[index])
        where = f"{describe}: the box of {names[index]}"
        shown = f"x1, y1, x2, y2 = {corners} in {width} x {height} pixels"
        if not is_finite[index]:
            raise ValueError(f"{where} is outside of all images: {shown}")
        if is_wrong[index]:
            raise ValueError(f"{where} has its corners in wrong order: {shown}")
        if not clip_boxes:
            raise ValueError(
                f"{where} is outside: {shown}; --clip_boxes cuts such boxes off at the border"
            )
        keep[index] = areas_inside[index] > 0
        kind = "boxes cut off at the border" if keep[index] else "boxes outside, left out"
        notes.add(kind, f"{names[index]} of {describe}")
    return clipped, keep


def for_training(source: BoxSource, with_masks: bool) -> BoxSource:
    """Leaves out crowds and boxes without area, and images that are then empty.

    Difficult objects of VOC stay, as in detectron2. One line of the log counts what is left out, here and
    in the files.

    Args:
        source: images with boxes.
        with_masks: if True, objects without a mask are left out too.

    Raises:
        ValueError: if nothing is left, or no object has a mask.

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
    notes = source.notes.copy()
    objects, kept = [], []
    if with_masks and not source.has_masks:
        first = next((n for n, one in enumerate(source.objects) if len(one.boxes)), 0)
        raise ValueError(
            f"{source.describe(first)} has no masks, which --model needs, nor has any other image"
        )
    for index, one in enumerate(source.objects):
        is_crowd = one.is_ignored & (source.metric == COCO)
        is_flat = ~_has_area(one)
        is_without_mask = ~_has_mask(one) if with_masks else np.zeros(len(one.boxes), bool)
        case = f"one of {source.describe(index)}"
        for kind, is_out, is_expected in (
            ("crowds, not trained on", is_crowd, True),
            ("boxes without area, left out", is_flat & ~is_crowd, False),
            ("objects without a mask, left out", is_without_mask & ~is_flat & ~is_crowd, False),
        ):
            if is_out.any():
                notes.add(kind, case, int(is_out.sum()), is_expected=is_expected)
        keep = ~(is_crowd | is_flat | is_without_mask)
        if keep.any():
            kept.append(index)
            objects.append(_select(one, np.flatnonzero(keep)))
        else:
            notes.add("images without a box for training, left out", source.describe(index))
    if not kept:
        reasons = f"; {notes}" if notes.counts else ""
        raise ValueError(f"{source.name} has no image with a box for training{reasons}")
    notes.log(f"{source.name}, for training")
    return dataclasses.replace(pick(source, kept), objects=objects, notes=notes)


def for_testing(source: BoxSource, with_masks: bool) -> BoxSource:
    """Notes which objects are scored in another way than the others; all images and objects stay.

    One line of the log counts them, and what was left out of the files.

    Args:
        source: images with boxes.
        with_masks: whether masks are scored too.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, for_testing, make_objects

        objects = [make_objects("a", (40, 60), [[5, 5, 9, 5]], [0], [False])]
        sizes = np.array([[40, 60]], np.int32)
        source = BoxSource("one", lambda index: b"", str, sizes, objects, ("line",), [1], [1], COCO)
        assert for_testing(source, False).notes.counts == {"boxes without area, scored all the same": 1}
        ```
    """
    notes = source.notes.copy()
    for index, one in enumerate(source.objects):
        counts = ~one.is_ignored
        kinds = {"boxes without area, scored all the same": counts & ~_has_area(one)}
        if with_masks:
            kinds["objects without a mask, left out of the mask AP"] = counts & ~_has_mask(one)
        for kind, is_so in kinds.items():
            if is_so.any():
                notes.add(kind, f"one of {source.describe(index)}", int(is_so.sum()))
    if all(one.is_ignored.all() for one in source.objects):
        kind = "images of a set without an object that counts, which has no AP"
        notes.add(kind, source.describe(0), source.num_examples)
    notes.log(f"{source.name}, to test on")
    return dataclasses.replace(source, notes=notes)


def with_classes(source: BoxSource, class_names: Sequence[str]) -> BoxSource:
    """Numbers the classes of a source as those of another, by their names.

    Args:
        source: images with boxes.
        class_names: names of the other source's classes; those that `source` lacks stay without
            objects.

    Raises:
        ValueError: if `source` has a class that the other one lacks, with all names that differ.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, make_objects, with_classes

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])]
        sizes = np.array([[40, 60]], np.int32)
        source = BoxSource("one", lambda index: b"", str, sizes, objects, ("dog",), [1], [7], COCO)
        source = with_classes(source, ["cat", "dog"])
        assert source.objects[0].classes.tolist() == [1] and list(source.class_ids) == [8, 7]
        ```
    """
    class_names = tuple(class_names)
    if source.class_names == class_names:
        return source
    ours, others = set(source.class_names), set(class_names)
    if len(ours) < len(source.class_names) or len(others) < len(class_names) or ours - others:
        unknown = ", ".join(n for n in source.class_names if n not in others) or "none"
        missing = ", ".join(n for n in class_names if n not in ours) or "none"
        raise ValueError(
            f"other classes than in training. Only here: {unknown}; only in training: {missing}"
        )
    numbers = np.array([class_names.index(name) for name in source.class_names], np.int32)
    # Classes that the source does not have get new ids.
    ids = dict(zip(source.class_names, source.class_ids, strict=True))
    for name in class_names:
        ids.setdefault(name, max(ids.values(), default=0) + 1)
    objects = [dataclasses.replace(one, classes=numbers[one.classes]) for one in source.objects]
    return dataclasses.replace(
        source,
        objects=objects,
        class_names=class_names,
        class_ids=[ids[name] for name in class_names],
    )


def without(source: BoxSource, indices: Collection[int]) -> BoxSource:
    """Leaves out images, such as those that cannot be decoded, and notes their number.

    Args:
        source: images with boxes.
        indices: numbers of the images.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf
        from pixpro_keras.detection.box_source import COCO, BoxSource, make_objects, without

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])] * 2
        sizes = np.array([[40, 60]] * 2, np.int32)
        source = BoxSource("two", lambda i: b"", str, sizes, objects, ("cat",), [7, 8], [1], COCO)
        assert without(source, [0]).image_ids == [8]
        ```
    """
    if not indices:
        return source
    notes = source.notes.copy()
    kind = "images that cannot be decoded, left out"
    notes.add(kind, source.describe(min(indices)), len(indices))
    kept = [index for index in range(source.num_examples) if index not in indices]
    return dataclasses.replace(pick(source, kept), notes=notes)


def pick(source: BoxSource, kept: Sequence[int]) -> BoxSource:
    """The images of some numbers.

    Args:
        source: images with boxes.
        kept: numbers of the images.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import COCO, BoxSource, make_objects, pick

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])] * 2
        sizes = np.array([[40, 60]] * 2, np.int32)
        source = BoxSource("two", lambda i: b"", str, sizes, objects, ("cat",), [7, 8], [1], COCO)
        assert pick(source, [1]).image_ids == [8]
        ```
    """
    indices = np.array(kept, np.int64)

    def read(index: Tensor) -> Tensor:
        return source.read(tf.constant(indices)[index])

    return dataclasses.replace(
        source,
        read=read,
        describe=lambda index: source.describe(kept[index]),
        sizes=source.sizes[indices],
        objects=[source.objects[index] for index in kept],
        image_ids=[source.image_ids[index] for index in kept],
    )


def unscored_classes(source: BoxSource) -> list[str]:
    """Names of the classes of which no object counts, so that they have no AP.

    Args:
        source: images with boxes.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.detection.box_source import (
            COCO,
            BoxSource,
            make_objects,
            unscored_classes,
        )

        objects = [make_objects("a", (40, 60), [[0, 0, 9, 9]], [0], [False])]
        sizes = np.array([[40, 60]], np.int32)
        names, read = ("cat", "dog"), lambda index: b""
        source = BoxSource("one", read, str, sizes, objects, names, [1], [1, 2], COCO)
        assert unscored_classes(source) == ["dog"]
        ```
    """
    present = {int(number) for one in source.objects for number in one.classes[~one.is_ignored]}
    return [name for number, name in enumerate(source.class_names) if number not in present]


def _has_area(objects: Objects) -> np.ndarray:
    return np.array((np.diff(objects.boxes.reshape(-1, 2, 2), axis=1) > 0).all((1, 2)))


def _has_mask(objects: Objects) -> np.ndarray:
    if objects.segmentations is None:
        return np.zeros(len(objects.boxes), bool)
    return np.array([bool(one) for one in objects.segmentations], bool)


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
