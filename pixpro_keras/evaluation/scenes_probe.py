"""A quick look at what backbones have learned, on the embedded scenes."""

from collections.abc import Callable, Mapping

import keras

from pixpro_keras.data.scenes import scenes_dataset
from pixpro_keras.evaluation.compare import compare
from pixpro_keras.evaluation.features import labelled_batches

_TRAIN_SPLIT = "train[:800]"
_TEST_SPLIT = "validation"
_BATCH_SIZE = 100
# The scenes' own size. Crops enlarge what is on them, so that whole images are best shown larger than
# the crops of the training.
_IMAGE_SIZE = 128


def probe_on_scenes(
    backbones: Mapping[str, keras.Model],
    preprocess: Callable,
    data_dir: str | None = None,
) -> dict[str, dict[str, float]]:
    """Accuracies on held-out scenes, from the labels of 800 training scenes; see `compare`.

    Args:
        backbones: name -> `(B, H, W, 3) -> (B, h, w, C)`. Their batch-norm statistics change.
        preprocess: the backbones' input convention.
        data_dir: where TFDS keeps its data sets.

    Returns:
        Name -> accuracies, as `compare` returns them.
    """
    builder = scenes_dataset.builder(data_dir)
    train, test = (
        labelled_batches(builder, split, _IMAGE_SIZE, preprocess, _BATCH_SIZE)
        for split in (_TRAIN_SPLIT, _TEST_SPLIT)
    )
    return compare(backbones, train, test, num_batch_norm_batches=3)
