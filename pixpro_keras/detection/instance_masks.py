"""Masks of objects: COCO polygons and RLE, bitmaps of boxes, and masks of whole images.

In batches, a mask is a small bitmap of its own box: it is cut out before the image is scaled, fits any
scale, and its memory does not depend on the image's size. It has four times as many cells along each side as
the predicted masks of 28 x 28, so that these lose no detail.
"""

from typing import Any

import numpy as np

CROP_SIZE = 112
# Polygons that extend this many sides beyond their box are drawn in the whole image, at its size: in a box
# of a thousandth of a pixel they would take seconds and gigabytes.
_MAX_DRAWN_SIDES = 64


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """COCO's RLE of a mask `(H, W)`; `counts` is text, as JSON needs it."""
    from pycocotools import mask as coco

    rle = coco.encode(np.asfortranarray(mask, np.uint8))
    return rle | {"counts": rle["counts"].decode()}


def clean(segmentation: Any, height: int, width: int) -> tuple[Any, bool, int]:
    """Checks a mask from a file, and drops polygons of fewer than three points, as in detectron2.

    pycocotools, which draws masks, trusts what it gets.

    Args:
        segmentation: polygons or RLE, as for `compress`, of unknown validity; None or an empty list
            without a mask.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        The mask, an empty list if nothing is left of it; whether it was a polygon that was not in a
        list; and the number of polygons that were left out.

    Raises:
        ValueError: if it is neither polygons nor RLE, or not of this image.
    """
    if segmentation is None or segmentation == []:
        return [], False, 0
    if not isinstance(segmentation, list):
        return (segmentation if _has_pixels(segmentation, height, width) else []), False, 0
    is_flat = not any(isinstance(one, (list, str, dict)) or one is None for one in segmentation)
    polygons = []
    for polygon in [segmentation] if is_flat else segmentation:
        corners = np.asarray(polygon)
        if not isinstance(polygon, list) or (
            polygon and (corners.ndim != 1 or corners.dtype.kind not in "iuf")
        ):
            raise ValueError(
                f"a polygon must be a list of three or more pairs of numbers. Received: {polygon!r:.80}"
            )
        if corners.size < 6:
            continue
        if corners.size % 2:
            raise ValueError(
                "a polygon must be a list of three or more pairs of numbers. "
                f"Received: {corners.size} numbers"
            )
        # Drawing takes time and memory in proportion to the length of its sides.
        if not (np.abs(corners.reshape(-1, 2)) <= 2 * np.array([width, height])).all():
            raise ValueError(f"a polygon is far outside of {width} x {height} pixels")
        polygons.append(polygon)
    return polygons, is_flat, (1 if is_flat else len(segmentation)) - len(polygons)


def _has_pixels(segmentation: Any, height: int, width: int) -> bool:
    """Checks RLE. Returns True if the mask has any pixel."""
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= set(segmentation):
        raise ValueError("a mask must be a list of polygons, or RLE with 'size' and 'counts'")
    if list(segmentation["size"]) != [height, width]:
        raise ValueError(f"a mask has the size {segmentation['size']}, not {[height, width]}")
    counts = segmentation["counts"]
    runs = counts if isinstance(counts, list) else _unpack(counts)
    if any(not isinstance(run, int) or run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"the runs of a mask do not add up to {height} x {width} pixels")
    return sum(runs[1::2]) > 0


def _unpack(counts: str | bytes) -> list[int]:
    """Decodes COCO's compressed RLE to run lengths.

    A character holds six bits; the highest tells whether more follow. From the fourth number on, each is
    the difference from the number two places before.
    """
    runs: list[int] = []
    number = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError("the runs of a mask are not in COCO's text form")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                number -= 1 << shift
            runs.append(number + (runs[-2] if len(runs) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("the runs of a mask are truncated")
    return runs


def compress(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Converts polygons or RLE to COCO's compressed RLE, as pycocotools does.

    Args:
        segmentation: list of polygons `x1, y1, x2, y2, ...`, or RLE, whose `counts` are a list, text
            or bytes.
        height: height of the image in pixels.
        width: width of the image in pixels.
    """
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        return coco.merge(coco.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco.frPyObjects(segmentation, height, width)
    return segmentation


def decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decodes polygons or RLE to a mask of the whole image.

    Args:
        segmentation: as for `compress`.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        `(height, width)` uint8 of 0 and 1; 0 without a polygon.
    """
    from pycocotools import mask as coco

    if segmentation == []:
        return np.zeros((height, width), np.uint8)
    return coco.decode(compress(segmentation, height, width))


def crop(
    segmentation: Any, box: np.ndarray, height: int, width: int, size: int = CROP_SIZE
) -> np.ndarray:
    """Mask inside of a box, scaled to a square.

    Args:
        segmentation: polygons or RLE, as for `compress`.
        box: `(4,)`, with area.
        height: height of the image in pixels.
        width: width of the image in pixels.
        size: S, side of the square.

    Returns:
        `(S, S)` uint8 of 0 and 1.
    """
    corner, sides = box[:2].astype(np.float64), (box[2:] - box[:2]).astype(np.float64)
    if isinstance(segmentation, list):
        # Polygons are drawn at the final size.
        scale = size / sides
        polygons = [
            ((np.reshape(polygon, (-1, 2)) - corner) * scale).ravel() for polygon in segmentation
        ]
        if max(np.abs(polygon).max() for polygon in polygons) <= _MAX_DRAWN_SIDES * size:
            return decode([polygon.tolist() for polygon in polygons], size, size)
    mask = decode(segmentation, height, width)
    centers = corner[:, None] + sides[:, None] * (np.arange(size) + 0.5) / size
    columns = np.clip(centers[0].astype(np.int64), 0, width - 1)
    rows = np.clip(centers[1].astype(np.int64), 0, height - 1)
    return mask[np.ix_(rows, columns)]


def paste(
    probabilities: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> np.ndarray:
    """Mask of a whole image from a predicted mask of a box; the inverse of `crop`.

    Pixels get the bilinear value at their center; beyond the mask's border there are zeros.

    Args:
        probabilities: `(S, S)` in [0, 1].
        box: `(4,)`, with area.
        height: height of the image in pixels.
        width: width of the image in pixels.
        threshold: probability from which on a pixel is inside.

    Returns:
        `(height, width)` booleans.
    """
    # In columns, as RLE counts.
    mask = np.full((height, width), threshold <= 0, order="F")
    size = len(probabilities)
    weights, spans = [], []
    for start, end, length in ((box[1], box[3], height), (box[0], box[2], width)):
        positions = (np.arange(length) + 0.5 - start) / max(end - start, 1e-6) * size - 0.5
        reached = np.flatnonzero((positions > -1) & (positions < size))
        spans.append(slice(reached[0], reached[-1] + 1) if len(reached) else slice(0, 0))
        distance = np.abs(positions[spans[-1], None] - np.arange(size))
        weights.append(np.maximum(1 - distance, 0))
    mask[spans[0], spans[1]] = weights[0] @ probabilities @ weights[1].T >= threshold
    return mask
