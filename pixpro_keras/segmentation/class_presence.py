"""Classes in the images of a source, and subsets that keep the share of each class."""

import numpy as np
import tensorflow as tf

from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.labels import check_fraction
from pixpro_keras.segmentation.mask_source import MaskSource
from pixpro_keras.types import Tensor
from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning


def read_presence(source: MaskSource, broken: BrokenImages | None = None) -> np.ndarray:
    """Finds the classes that each image has a pixel of.

    Args:
        source: images and masks.
        broken: count of the source's images with masks that cannot be decoded; None: at most 1 % of them.

    Returns:
        `(N, K)` bool; such images have no class.

    Raises:
        BrokenImagesError: once too many of them cannot be decoded.
        WrongValueError: if a mask has a value without a class.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.segmentation.class_presence import read_presence
        from pixpro_keras.segmentation.mask_source import MaskSource

        def read(index):
            return tf.zeros((8, 8, 3), tf.uint8), tf.fill((8, 8), tf.cast(index, tf.int32))

        presence = read_presence(MaskSource("flat", 2, read, str, ("zero", "one")))
        assert presence.tolist() == [[True, False], [False, True]]
        ```
    """
    num_classes = len(source.class_names)

    def present(index: Tensor) -> tuple[Tensor, Tensor]:
        _, mask = source.read(index)
        # Ignored pixels are counted beyond the last class.
        found = tf.math.bincount(tf.reshape(mask, (-1,)), minlength=256, maxlength=256)
        return index, found[:num_classes] > 0

    data = without_autotuning(tf.data.Dataset.range(source.num_examples))
    data = data.map(present, num_parallel_calls=NUM_THREADS, deterministic=True).ignore_errors()
    broken = broken or BrokenImages(source, max_share=0.01)
    presence = np.zeros((source.num_examples, num_classes), bool)
    for indices, rows in broken.watch(data.batch(1024), lambda batch: batch[0].numpy()):
        presence[indices.numpy()] = rows.numpy()
    return presence


def stratified_images(presence: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """Draws a fraction of the images so that each class keeps its share.

    From the rarest class to the most common, images with the class are drawn until it has its share,
    at least one image; the rest is drawn from all other images. Rare classes can make the result a
    few images larger.

    Args:
        presence: `(N, K)` bool, True where an image has a pixel of a class.
        fraction: fraction of the images, in (0, 1].
        seed: seed of the random choice.

    Returns:
        Indices of images, ascending.

    Raises:
        ValueError: if the fraction is out of its range.

    Reference:
        Sechidis et al., "On the Stratification of Multi-Label Data", ECML 2011.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.segmentation.class_presence import stratified_images

        presence = np.array([[True, False]] * 8 + [[True, True]] * 2)
        chosen = stratified_images(presence, fraction=0.5)
        assert len(chosen) == 5 and presence[chosen, 1].sum() == 1
        ```
    """
    check_fraction(fraction)
    rng = np.random.default_rng(seed)
    counts = presence.sum(axis=0)
    missing = np.where(counts > 0, np.maximum(np.round(fraction * counts), 1), 0)
    is_free = np.ones(len(presence), bool)
    for label in np.argsort(counts, kind="stable"):
        while missing[label] > 0:
            image = rng.choice(np.flatnonzero(is_free & presence[:, label]))
            is_free[image] = False
            missing -= presence[image]
    more = max(round(fraction * len(presence)), 1) - np.sum(~is_free)
    is_free[rng.choice(np.flatnonzero(is_free), max(more, 0), replace=False)] = False
    return np.flatnonzero(~is_free)
