"""Composes scenes from `drawing`: arranges, lights and paints them, and keeps the annotations.

Plain NumPy, so that worker processes start at once:

    python -m pixpro_keras.data.scenes.composition train 0 4000 2

writes scenes 0, 2, 4, ... of the split to its output, pickled one after the other.
"""

import dataclasses
import pickle
import sys
from typing import Any

import numpy as np

from pixpro_keras.data.scenes import drawing
from pixpro_keras.utils import checks

Array = np.ndarray

CLASS_NAMES = tuple(drawing.OBJECTS)
_SPLIT_KEYS = {"train": 1, "validation": 2}  # Streams of random numbers; never reuse one.
_MIN_VISIBLE_PIXELS = 48
_MIN_VISIBLE_SHARE = 0.2
_HABITAT_SHARE = 0.5  # Share of grounds that are typical of the main object; others are random.


@dataclasses.dataclass(frozen=True)
class Thing:
    """Something to draw.

    Attributes:
        painter: outline and texture.
        label: class index, or -1 for clutter, which no annotation mentions.
        center: x and y in pixels.
        radius: radius of the disc that it fills, in pixels.
    """

    painter: drawing.Painter
    label: int
    center: tuple[float, float]
    radius: float


@dataclasses.dataclass(frozen=True)
class Layer:
    """A thing traced on the canvas, inside a window of it.

    Attributes:
        rows: rows of the window.
        columns: columns of the window.
        distance: `(h, w)`. Distance to the outline in pixels, negative inside.
        tone: `(h, w)` in [0, 1].
    """

    rows: slice
    columns: slice
    distance: Array
    tone: Array


def draw_scene(split: str, index: int) -> dict[str, Any]:
    """Draws one example; equal arguments give equal examples.

    Args:
        split: `"train"` or `"validation"`.
        index: index of the scene in the split, from 0.

    Returns:
        An example with the features of `Scenes`, before encoding: images are uint8 arrays.

    Raises:
        ValueError: if there is no such split.

    Example:
        ```python
        from pixpro_keras.data.scenes import draw_scene

        scene = draw_scene("train", 0)
        assert scene["image"].shape[:2] == scene["instance_mask"].shape[:2]
        ```
    """
    checks.one_of("split", split, _SPLIT_KEYS)
    dice = drawing.Dice(_SPLIT_KEYS[split], index)
    height, width = 8 * dice.integer(14, 18), 8 * dice.integer(14, 18)
    main_label = index % len(CLASS_NAMES)
    instances = np.zeros((height, width), np.uint8)
    hidden = np.zeros((height, width), bool)
    layers: list[Layer] = []
    objects: list[dict[str, Any]] = []
    # From front to back, so that the visible part of each object is known before it is drawn. Hardly
    # visible objects are not drawn, so that image and annotations agree.
    for thing in _arrange(dice, height, width, main_label):
        layer = _trace(thing, dice, height, width)
        window = (layer.rows, layer.columns)
        inside = layer.distance <= 0
        visible = inside & ~hidden[window]
        count = int(visible.sum())
        if count < max(_MIN_VISIBLE_PIXELS, _MIN_VISIBLE_SHARE * int(inside.sum())):
            continue
        hidden[window] |= inside
        layers.append(layer)
        if thing.label >= 0:
            box_rows, box_columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
            top, left = layer.rows.start, layer.columns.start
            objects.append(
                {
                    "bbox": {
                        "ymin": (top + int(box_rows[0])) / height,
                        "xmin": (left + int(box_columns[0])) / width,
                        "ymax": (top + int(box_rows[-1]) + 1) / height,
                        "xmax": (left + int(box_columns[-1]) + 1) / width,
                    },
                    "label": thing.label,
                    "area": count,
                    "is_crowd": False,
                }
            )
            instances[window][visible] = len(objects)
    labels = np.array([-1] + [item["label"] for item in objects])
    largest = max(objects, key=lambda item: item["area"])
    return {
        "image": _paint(dice, layers, main_label, height, width),
        "label": largest["label"],
        "segmentation_mask": (labels[instances] + 1).astype(np.uint8)[..., None],
        "instance_mask": instances[..., None],
        "objects": objects,
    }


def _arrange(dice: drawing.Dice, height: int, width: int, main_label: int) -> list[Thing]:
    """Arranges one large object, smaller ones and clutter, from front to back."""
    side = min(height, width)

    def place(
        painter: drawing.Painter, label: int, low: float, high: float, margin: float
    ) -> Thing:
        x, y = (n * dice.uniform(margin, 1 - margin) for n in (width, height))
        radius = side * dice.uniform(low, high)
        return Thing(painter, label, (x, y), radius)

    painters = tuple(drawing.OBJECTS.values())
    things = []
    for _ in range(dice.integer(1, 3)):
        label = dice.integer(0, len(painters) - 1)
        things.append(place(painters[label], label, 0.12, 0.2, 0.05))
    for _ in range(dice.integer(0, 3)):
        things.insert(
            dice.integer(0, len(things)), place(dice.choice(drawing.CLUTTER), -1, 0.1, 0.22, 0.0)
        )
    main = place(painters[main_label], main_label, 0.42, 0.58, 0.38)
    things.insert(dice.integer(0, len(things)), main)
    return things


def _trace(thing: Thing, dice: drawing.Dice, height: int, width: int) -> Layer:
    """Draws an object's outline and texture on the canvas, rotated, mirrored, squashed and bent."""
    radius = thing.radius
    reach = 1.1 * radius + 4
    columns, rows = (
        slice(max(int(c - reach), 0), min(int(c + reach) + 1, n))
        for c, n in zip(thing.center, (width, height), strict=True)
    )
    x = (np.arange(columns.start, columns.stop) + 0.5 - thing.center[0]) / radius
    y = (np.arange(rows.start, rows.stop)[:, None] + 0.5 - thing.center[1]) / radius
    c, s = dice.direction()
    squash = dice.uniform(0.75, 1.0) * (-1 if dice.chance(0.5) else 1)
    u, v = c * x + s * y, (c * y - s * x) / squash
    bend, phase = dice.uniform(0, 0.06), dice.uniform()
    u, v = u + bend * drawing.wave(0.5 * v + phase), v + bend * drawing.wave(0.5 * u + phase)
    distance, tone = thing.painter(u, v, 1 / radius, dice)
    return Layer(rows, columns, distance * radius, tone)


def _colors(dice: drawing.Dice, contrast: float) -> tuple[Array, Array]:
    """A dark and a bright color, `(3, 1, 1)` in [0, 1], whose luminances differ by `contrast`."""
    saturation = dice.uniform(0.0, 0.5)
    while True:
        dark, bright = dice.array(2, 3)
        gray = [0.3 * float(r) + 0.59 * float(g) + 0.11 * float(b) for r, g, b in (dark, bright)]
        if gray[1] - gray[0] >= contrast:
            dark, bright = (
                level + saturation * (color - level)
                for level, color in zip(gray, (dark, bright), strict=True)
            )
            return dark[:, None, None], bright[:, None, None]


def _paint(
    dice: drawing.Dice, layers: list[Layer], main_label: int, height: int, width: int
) -> Array:
    """Paints the ground and the layers (given front to back), then light and grain."""
    side = min(height, width)
    x = (np.arange(width)[None] + 0.5 - width / 2) / side
    y = (np.arange(height)[:, None] + 0.5 - height / 2) / side
    light = dice.direction()
    mottle = drawing.noise(10 * x, 10 * y, dice, octaves=2) - 0.5
    canvas = _ground(dice, x, y, 1 / side, main_label)
    for layer in reversed(layers):
        _shade_below(canvas, layer, light, dice)
        _paint_layer(canvas, layer, light, mottle, dice)
    canvas *= 1 + dice.uniform(0.0, 0.5) * (x * light[0] + y * light[1])
    canvas += dice.uniform(0.01, 0.06) * (dice.array(3, height, width) - 0.5)
    canvas += dice.uniform(-0.08, 0.08)
    pixels = np.floor(np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


def _ground(dice: drawing.Dice, x: Array, y: Array, pixel: float, main_label: int) -> Array:
    """Draws the ground, `(3, H, W)`: one texture, or two that meet at a curved line."""
    habitat = drawing.HABITATS[CLASS_NAMES[main_label]]

    def texture() -> Array:
        c, s = dice.direction()
        dark, bright = _colors(dice, 0.05)
        painter = habitat if dice.chance(_HABITAT_SHARE) else dice.choice(drawing.GROUNDS)
        tone = painter(c * x + s * y, c * y - s * x, pixel, dice)
        return dark + dice.uniform(0.3, 0.7) * (bright - dark) * tone

    ground = texture()
    if dice.chance(0.5):
        c, s = dice.direction()
        border = c * x + s * y + 0.1 * drawing.wave(0.7 * (c * y - s * x) + dice.uniform())
        share = drawing.ramp(border - dice.uniform(-0.25, 0.25), 2 * pixel)
        ground += share * (texture() - ground)
    return ground


def _shade_below(
    canvas: Array, layer: Layer, light: tuple[float, float], dice: drawing.Dice
) -> None:
    """Draws the soft shadow of a layer on the canvas."""
    shift_x, shift_y = (-int(np.floor(4 * part + 0.5)) for part in light)
    height, width = canvas.shape[1:]
    top, left = layer.rows.start + shift_y, layer.columns.start + shift_x
    bottom, right = layer.rows.stop + shift_y, layer.columns.stop + shift_x
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    distance = layer.distance[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    canvas[:, rows, columns] *= 1 - dice.uniform(0.15, 0.5) * drawing.ramp(-distance, 6.0)


def _paint_layer(
    canvas: Array, layer: Layer, light: tuple[float, float], mottle: Array, dice: drawing.Dice
) -> None:
    """Paints a layer on the canvas: two mottled colors with shading toward the rim."""
    dark, bright = _colors(dice, 0.35)
    # The rim bends away from the viewer: lit on the light's side, dim on the other.
    slope_y, slope_x = np.gradient(layer.distance)
    rim = np.clip(1 + layer.distance / dice.uniform(4, 14), 0, 1)
    shade = 1 + dice.uniform(0.15, 0.45) * rim * (slope_x * light[0] + slope_y * light[1])
    shade += dice.uniform(0.0, 0.3) * mottle[layer.rows, layer.columns]
    area = canvas[:, layer.rows, layer.columns]
    alpha = drawing.ramp(-layer.distance, 1.0)
    area += alpha * ((dark + (bright - dark) * layer.tone) * shade - area)


def main(split: str, *numbers: str) -> None:
    """Pickles the scenes of `range(*numbers)` to standard output."""
    for index in range(*map(int, numbers)):
        pickle.dump(draw_scene(split, index), sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
