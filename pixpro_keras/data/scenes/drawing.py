"""Parts of the embedded scenes: ten kinds of object, clutter and grounds, in plain NumPy.

Everything here computes with `+ - * /`, square root, floor, minimum, maximum and comparisons on
float64, element by element. IEEE 754 rounds those the same everywhere; sines, powers, sums over
arrays and NumPy's newer generators differ between machines or versions by a last digit, which is
enough to change a pixel. That is why `wave` stands in for the sine, angles are unit vectors and
`cos(n * angle)` is a complex power.

An object is a function `(u, v, pixel, dice) -> (distance, tone)`. `u`, `v` are the object's own
coordinates, in which it fills about the unit disc; `pixel` is the side of a pixel in them.
`distance` is negative inside, about the distance to the outline. `tone` in [0, 1] mixes the two
colors the object is painted in: a class is an outline and a texture, never a color. A ground is a
function `(x, y, pixel, dice) -> tone` of coordinates in short sides of the image.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Array = np.ndarray
Painter = Callable[[Array, Array, float, "Dice"], tuple[Array, Array]]
Ground = Callable[[Array, Array, float, "Dice"], Array]
T = TypeVar("T")


class Dice:
    """Random numbers that are the same for the same key on every machine and under every NumPy.

    `RandomState` is frozen by NumPy's compatibility policy; only its uniform floats are used.

    Args:
        *key: non-negative integers that name the stream.
    """

    def __init__(self, *key: int):
        self._state = np.random.RandomState(key)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * float(self._state.random_sample())

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both possible."""
        return low + int((high - low + 1) * self.uniform())

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.integer(0, len(items) - 1)]

    def direction(self) -> tuple[float, float]:
        """A unit vector of any angle: a point of the disc, pushed to its rim."""
        while True:
            x, y = self.uniform(-1, 1), self.uniform(-1, 1)
            squared = x * x + y * y
            if 0.01 < squared < 1:
                length = float(np.sqrt(squared))
                return x / length, y / length

    def array(self, *shape: int) -> Array:
        """Numbers in [0, 1)."""
        return self._state.random_sample(shape)


def wave(x: Array | float) -> Array:
    """A sine made of parabolas: period 1, range [-1, 1], slope 8 at whole numbers."""
    s = 2 * (x - np.floor(x)) - 1
    return 4 * s * (np.abs(s) - 1)


def ramp(x: Array, width: float) -> Array:
    """0 below `-width / 2`, 1 above `width / 2`, straight between: an edge without stairs."""
    return np.clip(x / width + 0.5, 0, 1)


def length(x: Array, y: Array) -> Array:
    """Euclidean length."""
    return np.sqrt(x * x + y * y)


def turn(u: Array, v: Array, times: int) -> tuple[Array, Array, Array]:
    """Polar form without trigonometry: radius, `cos(times * angle)`, `sin(times * angle)`."""
    radius = length(u, v) + 1e-9
    x, y = u / radius, v / radius
    c, s = np.ones_like(u), np.zeros_like(u)
    while times:
        if times & 1:
            c, s = c * x - s * y, c * y + s * x
        x, y = x * x - y * y, 2 * x * y
        times >>= 1
    return radius, c, s


def stripes(x: Array, pixel: float, duty: float = 0.0) -> Array:
    """Bands of 0 and 1 with period 1 in `x`; `pixel` in units of `x`, wider 1 for larger `duty`."""
    return ramp(wave(x) + duty, max(8 * pixel, 0.2))


def noise(x: Array, y: Array, dice: Dice, octaves: int = 1) -> Array:
    """Smooth noise in [0, 1] with one bump per unit; each octave adds finer, fainter bumps."""
    table = dice.array(32 * 32)
    total = np.zeros(1)
    for octave in range(octaves):
        scale = 2**octave
        i, j = np.floor(y * scale), np.floor(x * scale)
        fy, fx = y * scale - i, x * scale - j
        fy, fx = fy * fy * (3 - 2 * fy), fx * fx * (3 - 2 * fx)
        i, j = i.astype(np.int64), j.astype(np.int64)
        row, next_row = (i & 31) << 5, ((i + 1) & 31) << 5
        column, next_column = j & 31, (j + 1) & 31
        upper, lower = table.take(row + column), table.take(next_row + column)
        upper += fx * (table.take(row + next_column) - upper)
        lower += fx * (table.take(next_row + next_column) - lower)
        total = total + (upper + fy * (lower - upper)) / scale
    return total / (2 - 0.5 ** (octaves - 1))


def cells(x: Array, y: Array, dice: Dice) -> tuple[Array, Array]:
    """Irregular cells, one per unit square: distance from the cells' borders, a value per cell."""
    shift_y, shift_x, values = dice.array(3, 16 * 16)
    i, j = np.floor(y), np.floor(x)
    fy, fx = y - i, x - j
    i, j = i.astype(np.int64), j.astype(np.int64)
    first, second = np.full_like(x, 9), np.full_like(x, 9)
    nearest = np.zeros_like(i)
    for di in (-1, 0, 1):
        row = ((i + di) & 15) << 4
        for dj in (-1, 0, 1):
            key = row + ((j + dj) & 15)
            dy, dx = shift_y.take(key) + di - fy, shift_x.take(key) + dj - fx
            distance = dx * dx + dy * dy
            nearest = np.where(distance < first, key, nearest)
            second = np.minimum(second, np.maximum(first, distance))
            first = np.minimum(first, distance)
    return np.sqrt(second) - np.sqrt(first), values.take(nearest)


def ball(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Disc or egg with meridians, like a beach ball."""
    flat, count = dice.uniform(0.8, 1.0), dice.uniform(0.9, 1.7)
    w = v / flat
    meridian = u / np.sqrt(np.maximum(1 - w * w, 0.04))
    tone = stripes(count * meridian + dice.uniform(), count * pixel * 1.5)
    return (length(u, w) - 1) * flat, tone


def wall(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Rectangle of bricks."""
    width, height = 0.92, dice.uniform(0.5, 0.85)
    rows = dice.uniform(2.2, 3.6)
    y = (v + height) * rows
    row = np.floor(y)
    x = u * rows * dice.uniform(0.4, 0.55) + 0.5 * row + dice.uniform()
    column = np.floor(x)
    joint = dice.uniform(0.1, 0.16)
    to_joint = np.minimum(
        np.minimum(y - row, row + 1 - y) - joint,
        2 * (np.minimum(x - column, column + 1 - x)) - joint,
    )
    shades = dice.array(16, 16)[row.astype(np.int64) & 15, column.astype(np.int64) & 15]
    tone = 1 - ramp(to_joint, max(rows * pixel, 0.05)) * (0.6 + 0.4 * shades)
    return np.maximum(np.abs(u) - width, np.abs(v) - height), tone


def leaf(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Two arcs that meet in points, with a midrib and slanted side veins."""
    offset = dice.uniform(0.35, 0.9)
    radius = float(np.sqrt(1 + offset * offset))
    side = np.abs(v)
    count = dice.uniform(2.5, 4.0)
    veins = stripes((u - dice.uniform(0.7, 1.3) * side) * count, count * pixel * 1.5, -0.45)
    midrib = 1 - ramp(side - 0.07, 2 * pixel)
    return length(u, side + offset) - radius, np.maximum(veins, midrib)


def starfish(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Star of four to six round-tipped arms, covered in dots."""
    radius, c, _ = turn(u, v, dice.integer(4, 6))
    arm = (1 + c) / 2
    core = dice.uniform(0.38, 0.5)
    distance = 0.6 * (radius - core - (1 - core) * arm * arm)
    count = dice.uniform(2.6, 3.8)
    y = v * count
    row = np.floor(y)
    x = u * count + 0.5 * row + dice.uniform()
    dot = length(x - np.floor(x) - 0.5, y - row - 0.5)
    return distance, ramp(dice.uniform(0.26, 0.36) - dot, max(count * pixel, 0.1))


def flower(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Five to eight petals, dark toward their seams, around a disc."""
    radius, c, _ = turn(u, v, dice.integer(5, 8))
    bulge = np.sqrt((1 + c) / 2 + 1e-9)
    depth = dice.uniform(0.25, 0.4)
    petals = np.clip(1.25 * bulge - 0.1, 0, 1) * np.clip(0.35 + 0.65 * radius, 0, 1)
    disc = ramp(dice.uniform(0.22, 0.34) - radius, 2 * pixel)
    return 0.8 * (radius - 1 + depth - depth * bulge), (1 - petals) * (1 - disc) + disc


def shell(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Fan with a rippled rim and rings around its hinge."""
    spread, ribs = dice.uniform(0.9, 1.6), dice.integer(14, 24)
    x = u + 0.8
    radius, c, _ = turn(x, v, ribs)
    rim = radius - 1.6 - 0.05 * c
    sides = (np.abs(v) - spread * x - 0.1) / float(np.sqrt(1 + spread * spread))
    count = dice.uniform(2.6, 4.2)
    rings = stripes(radius * count + dice.uniform(), count * pixel * 1.5)
    return np.maximum(rim, sides), 0.8 * rings + 0.2 * (c > 0)


def gear(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Toothed ring of brushed metal: smooth, with two highlights; its hole is a real hole."""
    radius, c, _ = turn(u, v, dice.integer(7, 12))
    teeth = radius - 0.86 - 0.12 * np.clip(2.5 * c, -1, 1)
    hole = dice.uniform(0.28, 0.45) - radius
    x, y = dice.direction()
    _, c2, s2 = turn(u, v, 2)
    brush = wave(dice.uniform(7, 11) * radius) * 0.08
    return np.maximum(teeth, hole), 0.5 + 0.42 * (c2 * x + s2 * y) + brush


def gem(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Convex polygon cut into flat facets."""
    distance = np.full_like(u, -9)
    for quarter in range(4):
        for low, high in ((0.02, 0.3), (0.42, 0.9)):
            if dice.chance(0.85):
                t = dice.uniform(low, high)  # Tangent of half the angle within the quarter.
                x, y = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
                x, y = ((x, y), (-y, x), (-x, -y), (y, -x))[quarter]
                distance = np.maximum(distance, u * x + v * y - dice.uniform(0.72, 0.92))
    distance = np.maximum(distance, length(u, v) - 1)
    count = dice.uniform(1.3, 1.9)
    _, value = cells(u * count + 8 * dice.uniform(), v * count + 8 * dice.uniform(), dice)
    return distance, value


def cloth(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Checkered, slanted cloth with wavy edges."""
    slant, count = dice.uniform(-0.4, 0.4), dice.uniform(1.3, 2.3)
    y = v + dice.uniform(0.05, 0.1) * wave(u * dice.uniform(0.5, 0.9) + dice.uniform())
    x = u - slant * y
    x_wave, y_wave = wave(x * count + dice.uniform()), wave(y * count + dice.uniform())
    tone = ramp(x_wave * y_wave, max(8 * count * pixel, 0.2))
    return np.maximum(np.abs(x) - 0.75, np.abs(y) - dice.uniform(0.5, 0.75)), tone


def bush(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Lumpy outline filled with fine, blotchy noise."""
    distance = blob_outline(u, v, dice)
    scale = dice.uniform(3.5, 5.5)
    blotches = noise(u * scale + 9, v * scale + 9, dice, octaves=2)
    return distance, ramp(blotches - 0.5, 0.25)


def blob_outline(u: Array, v: Array, dice: Dice) -> Array:
    """Closed curve with random lumps."""
    rim = np.full_like(u, 0.82)
    radius = length(u, v)
    for lumps in (2, 3, 5, 8):
        x, y = dice.direction()
        _, c, s = turn(u, v, lumps)
        rim = rim + dice.uniform(0.02, 0.08) * (c * x + s * y)
    return 0.8 * (radius - rim)


def blob(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Clutter: a lump in one soft gradient."""
    return blob_outline(u, v, dice), 0.5 + 0.4 * wave(0.25 * u + dice.uniform())


def twig(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Clutter: a long, bent bar."""
    bend = dice.uniform(-0.3, 0.3)
    return np.maximum(np.abs(u) - 1, np.abs(v - bend * (u * u - 0.5)) - 0.07), 0.5 + 0.3 * wave(u)


def shard(u: Array, v: Array, pixel: float, dice: Dice) -> tuple[Array, Array]:
    """Clutter: a plain triangle."""
    width = dice.uniform(0.4, 0.9)
    sides = (np.abs(v) - width * (u + 0.9) / 1.6) / float(np.sqrt(1 + width * width))
    return np.maximum(u - 0.7, sides), 0.5 + 0.4 * u


OBJECTS: dict[str, Painter] = {
    painter.__name__: painter
    for painter in (ball, wall, leaf, starfish, flower, shell, gear, gem, cloth, bush)
}
CLUTTER: tuple[Painter, ...] = (blob, twig, shard)


def clouds(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: smooth, coarse noise."""
    scale = dice.uniform(2, 4.5)
    return noise(x * scale, y * scale, dice, octaves=3)


def planks(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: soft grain, bright seams."""
    scale = dice.uniform(3, 6)
    seams = stripes(y * scale + dice.uniform(), scale * pixel, -0.9)
    return 0.7 * noise(x * 0.75 * scale, y * 6 * scale, dice) + 0.3 * seams


def tiles(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: plain squares, bright joints."""
    scale = dice.uniform(3.5, 7)
    across = stripes(x * scale + dice.uniform(), scale * pixel, -0.85)
    return np.maximum(across, stripes(y * scale + dice.uniform(), scale * pixel, -0.85))


def pebbles(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: irregular stones, dark joints."""
    scale = dice.uniform(6, 13)
    border, value = cells(x * scale, y * scale, dice)
    return ramp(border - 0.15, 0.2) * (0.4 + 0.6 * value)


def grass(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: fine, stretched noise."""
    scale = dice.uniform(5, 10)
    return noise(x * 6 * scale, y * scale, dice)


def ripples(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: smooth bands, bent."""
    scale = dice.uniform(4, 9)
    return 0.5 + 0.5 * wave(y * scale + 1.2 * noise(x * 3, y * 3, dice))


def sand(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: fine grains."""
    scale = dice.uniform(30, 60)
    return noise(x * scale, y * scale, dice)


def haze(x: Array, y: Array, pixel: float, dice: Dice) -> Array:
    """Ground: a gradient."""
    return 0.5 + 0.5 * wave(0.3 * x + dice.uniform())


GROUNDS: tuple[Ground, ...] = (clouds, planks, tiles, pebbles, grass, ripples, sand, haze)

# As in photographs, the surroundings hint at the object: starfish lie on sand, mostly.
HABITATS: dict[str, Ground] = {
    "ball": planks,
    "wall": clouds,
    "leaf": pebbles,
    "starfish": sand,
    "flower": grass,
    "shell": ripples,
    "gear": tiles,
    "gem": haze,
    "cloth": planks,
    "bush": clouds,
}
