"""The jigsaw puzzle of InfoMin: patches of an image in random order."""

import tensorflow as tf

from pixpro_keras.data.transforms import crops
from pixpro_keras.types import Tensor

GRID = 3
# Sides in pixels of the authors' image and patches, for views of 224 px.
_VIEW, _IMAGE, _PATCH = 224, 255, 64
_AREA = (0.6, 1.0)


def patch_size(image_size: int) -> int:
    """Side of a patch in pixels: 64 for views of 224.

    Args:
        image_size: side of the views in pixels.

    Example:
        ```python
        from pixpro_keras.data.transforms import patch_size

        assert patch_size(112) == 32
        ```
    """
    return round(_PATCH * image_size / _VIEW)


def make_patches(image: Tensor, seed: Tensor, image_size: int) -> Tensor:
    """Divides a large crop into 3 x 3 cells and takes a patch from a random position in each.

    Colors and sharpness are not augmented, as in the authors' code.

    Args:
        image: `(H, W, 3)` uint8.
        seed: `(2,)` integers.
        image_size: side in pixels of the views that are used with the patches.

    Returns:
        `(9, P, P, 3)` float32 RGB in 0..255, in random order, with P of `patch_size`.

    Reference:
        Tian et al., NeurIPS 2020, arXiv:2005.10243; Misra and van der Maaten, CVPR 2020,
        arXiv:1912.01991.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.transforms import make_patches

        patches = make_patches(tf.zeros((40, 60, 3), tf.uint8), tf.constant([0, 1]), image_size=112)
        assert patches.shape == (9, 32, 32, 3)
        ```
    """
    patch = patch_size(image_size)
    field = round(_IMAGE * image_size / _VIEW) // GRID
    crop_seed, flip_seed, place_seed = tf.unstack(tf.random.split(seed, 3))
    shape = tf.shape(image)
    box = crops.random_resized_crop_box(crop_seed, shape[0], shape[1], _AREA)
    puzzle, coord = crops.crop_and_resize(image, box, GRID * field)
    puzzle, _ = crops.random_flip(puzzle, coord, flip_seed)
    draws = tf.random.stateless_uniform((GRID * GRID, 3), place_seed)
    offsets = tf.cast(draws[:, :2] * (field - patch + 1), tf.int32)  # in the field
    patches = []
    for number in range(GRID * GRID):
        row, column = divmod(number, GRID)
        top, left = row * field + offsets[number, 0], column * field + offsets[number, 1]
        patches.append(tf.slice(puzzle, [top, left, 0], [patch, patch, 3]))
    return tf.gather(tf.stack(patches), tf.argsort(draws[:, 2]))
