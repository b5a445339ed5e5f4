"""A quick look at what backbones have learned, on the embedded scenes."""

from collections.abc import Callable, Mapping

import keras

from pixpro_keras.data import scenes
from pixpro_keras.evaluation.compare import compare
from pixpro_keras.evaluation.features import labelled_batches

_TRAIN_SPLIT = "train[:1500]"
_TEST_SPLIT = "validation"
_BATCH_SIZE = 100


def probe_on_scenes(
    backbones: Mapping[str, keras.Model],
    preprocess: Callable,
    image_size: int,
    data_dir: str | None = None,
) -> dict[str, dict[str, float]]:
    """k-NN on held-out scenes, the neighbours taken from 1,500 training scenes; see `compare`.

    Args:
        backbones: name -> `(B, H, W, 3) -> (B, h, w, C)`. Their batch-norm statistics change.
        preprocess: the backbones' input convention.
        image_size: side of the square images in pixels.
        data_dir: where TFDS keeps its data sets.

    Returns:
        Name -> accuracies, as `compare` returns them.
    """
    builder = scenes.builder(data_dir)
    train, test = (
        labelled_batches(builder, split, image_size, preprocess, _BATCH_SIZE)
        for split in (_TRAIN_SPLIT, _TEST_SPLIT)
    )
    return compare(backbones, train, test)
