"""Comparison of backbones on the embedded scenes."""

from collections.abc import Callable, Mapping

import keras

from pixpro_keras.data.scenes import scenes_dataset
from pixpro_keras.evaluation.compare import compare_backbones
from pixpro_keras.evaluation.features import labeled_batches

_TRAIN_SPLIT = "train[:800]"
_TEST_SPLIT = "validation"
_BATCH_SIZE = 100
# Size of the scenes in pixels. Crops in training enlarge objects, so whole images should be larger than
# the crops.
_IMAGE_SIZE = 128


def probe_on_scenes(
    backbones: Mapping[str, keras.Model],
    preprocess: Callable,
    data_dir: str | None = None,
) -> dict[str, dict[str, float]]:
    """Accuracies on held-out scenes, from the labels of 800 training scenes; see `compare_backbones`.

    Args:
        backbones: name -> `(B, H, W, 3) -> (B, h, w, C)`.
        preprocess: the backbones' input convention, of RGB images in 0..255.
        data_dir: folder of the TFDS data sets; None is that of TFDS.

    Returns:
        Name -> accuracies, as from `compare_backbones`.

    Example:
        ```python
        import keras

        from pixpro_keras.evaluation import comparison_table, probe_on_scenes

        backbone = keras.Sequential([keras.Input((128, 128, 3)), keras.layers.Conv2D(4, 8, 16)])
        preprocess = keras.applications.resnet.preprocess_input
        print(comparison_table(probe_on_scenes({"random": backbone}, preprocess)))
        ```
    """
    builder = scenes_dataset.builder(data_dir)
    train, test = (
        labeled_batches(builder, split, _IMAGE_SIZE, preprocess, _BATCH_SIZE)
        for split in (_TRAIN_SPLIT, _TEST_SPLIT)
    )
    return compare_backbones(backbones, train, test, num_batch_norm_batches=3)
