"""Batch contract: the only thing that data and methods share.

A batch is a dict of tensors with static shapes:

| Key | Shape | Dtype | Meaning |
|---|---|---|---|
| `view1`, `view2` | `(B, H, W, 3)` | float32 | augmented crops, preprocessed; some methods take one |
| `coord1`, `coord2` | `(B, 4)` | float32 | `x1, y1, x2, y2` of each crop in its source image |
| `jigsaw` | `(B, 9, P, P, 3)` | float32 | patches in random order; only for methods that ask for them |
| `local_views` | `(B, K, h, w, 3)` | float32 | small crops; only with `DataConfig.num_local_views` |
| `local_coords` | `(B, K, 4)` | float32 | their corners |
| `draws1`, `draws2` | `(B, 13)` | float32 | in [0, 1), random; only if the device augments colors |
| `local_draws` | `(B, K, 13)` | float32 | the same for local views |
| `label` | `(B,)` | int32 | class index, -1 where there is none; only supervised methods read it |

Coordinates are normalized per axis: a crop at row `i`, column `j`, of size `h x w` from an image of
size `H x W` has `x1 = j / (W - 1)`, `x2 = (j + w - 1) / (W - 1)`, the same for y with `i, h, H`.
A mirrored view has `x1 > x2`: the order of the corners carries the flip, so they are never sorted.
Views need not be square, and have as many channels as the backbone takes.
"""

from typing import Any

__all__ = [
    "COORD1",
    "COORD2",
    "DRAWS1",
    "DRAWS2",
    "JIGSAW",
    "LABEL",
    "LOCAL_COORDS",
    "LOCAL_DRAWS",
    "LOCAL_VIEWS",
    "VIEW1",
    "VIEW2",
    "Batch",
    "Tensor",
    "batch_signature",
]

VIEW1 = "view1"
VIEW2 = "view2"
COORD1 = "coord1"
COORD2 = "coord2"
JIGSAW = "jigsaw"
DRAWS1 = "draws1"
DRAWS2 = "draws2"
LOCAL_VIEWS = "local_views"
LOCAL_COORDS = "local_coords"
LOCAL_DRAWS = "local_draws"
LABEL = "label"

IGNORED = 255  # Class of ignored pixels in every mask.

Tensor = Any
Batch = dict[str, Tensor]


def batch_signature(batch_size: int, image_size: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each entry of a batch.

    Args:
        batch_size: images in the batch.
        image_size: side of the square views in pixels.

    Returns:
        `{key: (shape, dtype name)}`.

    Example:
        ```python
        from pixpro_keras.types import batch_signature

        print(batch_signature(32, 224)["view1"])  # ((32, 224, 224, 3), "float32")
        ```
    """
    view = ((batch_size, image_size, image_size, 3), "float32")
    coord = ((batch_size, 4), "float32")
    return {VIEW1: view, VIEW2: view, COORD1: coord, COORD2: coord, LABEL: ((batch_size,), "int32")}
