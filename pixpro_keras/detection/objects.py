"""Objects of an image: boxes, classes and masks, checked."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.notes import Notes

# Tolerance for rounded annotations, in pixels; larger excess is an annotation error.
_TOLERANCE = 2.0


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

    @property
    def has_area(self) -> np.ndarray:
        """True for boxes whose sides are positive, `(n,)`."""
        return np.array((np.diff(self.boxes.reshape(-1, 2, 2), axis=1) > 0).all((1, 2)))

    @property
    def has_mask(self) -> np.ndarray:
        """True for objects with a mask, `(n,)`."""
        if self.segmentations is None:
            return np.zeros(len(self.boxes), bool)
        return np.array([bool(one) for one in self.segmentations], bool)

    def select(self, indices: np.ndarray) -> "Objects":
        """Selects objects by index.

        Args:
            indices: indices of the objects.
        """
        segmentations = self.segmentations
        if segmentations is not None:
            segmentations = [segmentations[index] for index in indices]
        return Objects(
            self.boxes[indices],
            self.classes[indices],
            self.is_ignored[indices],
            self.areas[indices],
            segmentations,
        )


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
    """Makes the objects of an image, checked and clipped to it.

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
        from pixpro_keras.detection.objects import make_objects

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
            _clean_mask(describe, name, segmentation, size, notes)
            for name, segmentation in zip(names, segmentations, strict=True)
        ]
        if segmentations and not any(segmentations):
            segmentations = None
    inside, keep = _inside(describe, size, boxes, names, clip_boxes, notes)
    for number, mask in enumerate(segmentations or ()):
        is_polygons = isinstance(mask, list) and mask
        if keep[number] and is_polygons and not _fits(mask, inside[number], size):
            kind = "polygons that are elsewhere than their box, used anyway"
            notes.add(kind, f"{names[number]} of {describe}")
    if areas is None:
        areas = np.prod(inside[:, 2:] - inside[:, :2], axis=1)
    objects = Objects(
        inside,
        np.asarray(classes, np.int32).reshape(-1),
        np.asarray(is_ignored, bool).reshape(-1),
        np.asarray(areas, np.float32).reshape(-1),
        segmentations,
    )
    return objects if keep.all() else objects.select(np.flatnonzero(keep))


def _clean_mask(
    describe: str, name: str, segmentation: Any, size: tuple[int, int], notes: Notes
) -> Any:
    """Checks a mask and returns it in drawable form: polygons without faults, or RLE. May be empty."""
    case = f"{name} of {describe}"
    try:
        mask, flat, short = instance_masks.clean(segmentation, *size)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{describe}: {name}: {error}") from error
    if flat:
        notes.add("polygons that are not in a list of polygons, read as its only one", case)
    if short:
        notes.add("polygons of fewer than three points, left out", case, short)
    return mask


def _fits(polygons: list[list[float]], box: np.ndarray, size: tuple[int, int]) -> bool:
    """Tells if the bounds of polygons roughly equal their box. True for boxes without area.

    They do if the IoU is at least a half or, for small objects, if all sides agree within `_TOLERANCE`.
    Only the parts inside the image are compared.
    """
    x1, y1, x2, y2 = box.tolist()
    (top, bottom), (left, right) = (
        [min(max(bound(bound(one[axis::2]) for one in polygons), 0), limit) for bound in (min, max)]
        for axis, limit in zip((1, 0), size, strict=True)
    )
    offsets = (left - x1, top - y1, right - x2, bottom - y2)
    if max(map(abs, offsets)) <= _TOLERANCE:
        return True
    shared = max(min(x2, right) - max(x1, left), 0) * max(min(y2, bottom) - max(y1, top), 0)
    area = (x2 - x1) * (y2 - y1)
    return not area or 2 * shared >= area + (right - left) * (bottom - top) - shared


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
