"""Comparison of backbones by the accuracy of their frozen features on labeled images."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.features import IMAGE, Features, extract_features
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn
from pixpro_keras.evaluation.logistic_regression import channel_scales, fit_logistic_regression
from pixpro_keras.evaluation.precise_bn import temporary_precise_bn
from pixpro_keras.utils.markdown import markdown_table

# Accuracy -> its column in a table.
_COLUMNS = {
    "image_knn": "image k-NN, top-1",
    "image_linear": "image linear, top-1",
    "cell_linear": "cell linear, class mean",
}


def compare_backbones(
    backbones: Mapping[str, keras.Model],
    train: tf.data.Dataset,
    test: tf.data.Dataset,
    *,
    k: int = 20,
    num_batch_norm_batches: int = 8,
) -> dict[str, dict[str, float]]:
    """Accuracy of pooled features (image labels) and of cell features (masks).

    All backbones are evaluated in the same way, with batch-norm statistics of training images, since
    those of an untrained network do not fit its activations; afterwards each has its own again. Frozen
    batch norm (`trainable = False`) keeps its own all the time. Features are standardized per channel with
    the statistics of the training features.

    Args:
        backbones: name -> `(B, H, W, 3) -> (B, h, w, C)`.
        train: batches as from `labeled_batches`, with masks.
        test: the same, of other images.
        k: number of neighbors.
        num_batch_norm_batches: training batches for the batch-norm statistics.

    Returns:
        Name -> `image_knn` and `image_linear` (top-1 of images by their neighbors and by logistic
        regression), `cell_linear` (top-1 of cells by logistic regression, averaged over the classes,
        so that the background does not count more than an object). The last row, `chance`, is the
        accuracy of always guessing the same class.

    Raises:
        ValueError: if `backbones` is empty or the batches have no masks.

    Example:
        ```python
        import keras
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.evaluation import compare_backbones, comparison_table

        images = np.random.rand(8, 16, 16, 3).astype("float32")
        labels = np.arange(8, dtype="int32") % 2
        masks = np.tile(labels[:, None, None], (1, 16, 16))
        data = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels, "mask": masks})
        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        rows = compare_backbones({"random": backbone}, data.batch(4), data.batch(4), k=3)
        print(comparison_table(rows))
        ```
    """
    if not backbones:
        raise ValueError("`backbones` must hold at least one backbone. Received none.")
    rows = {}
    for name, backbone in backbones.items():
        images = (one[IMAGE] for one in train.take(num_batch_norm_batches))
        with temporary_precise_bn(backbone, images):
            train_features, test_features = (
                extract_features(backbone, data, cells_per_image=16) for data in (train, test)
            )
        rows[name] = feature_accuracies(train_features, test_features, k)
    commonest = float(np.mean(test_features.labels == np.bincount(train_features.labels).argmax()))
    rows["chance"] = {
        "image_knn": commonest,
        "image_linear": commonest,
        "cell_linear": 1 / len(np.unique(test_features.cell_labels)),
    }
    return rows


def feature_accuracies(train: Features, test: Features, k: int) -> dict[str, float]:
    """Accuracies of the features of one backbone.

    Args:
        train: features of the training images.
        test: features of the test images.
        k: number of neighbors.

    Returns:
        `image_knn`, `image_linear` and `cell_linear`, as from `compare_backbones`.

    Raises:
        ValueError: if there are no cells.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import Features, feature_accuracies

        labels = np.arange(20) % 2
        vectors = np.random.rand(20, 4).astype("float32")
        features = Features(pooled=vectors, labels=labels, cells=vectors, cell_labels=labels)
        print(feature_accuracies(features, features, k=3))
        ```
    """
    if not len(train.cells) or not len(test.cells):
        raise ValueError("`train` and `test` must have masks with labeled pixels. Received none.")
    train_pooled, test_pooled = _standardize(train.pooled, test.pooled)
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    scores = weighted_knn(train_pooled, train.labels, test_pooled, num_classes=num_classes, k=k)
    image_classifier = fit_logistic_regression(train_pooled, train.labels)
    train_cells, test_cells = _standardize(train.cells, test.cells)
    # Classes have equal weight; otherwise background, most of the cells, would dominate.
    cell_classifier = fit_logistic_regression(train_cells, train.cell_labels, is_balanced=True)
    hits = cell_classifier.predict(test_cells) == test.cell_labels
    per_class = [hits[test.cell_labels == label].mean() for label in np.unique(test.cell_labels)]
    return {
        "image_knn": top_k_accuracy(scores, test.labels),
        "image_linear": float(np.mean(image_classifier.predict(test_pooled) == test.labels)),
        "cell_linear": float(np.mean(per_class)),
    }


def _standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, scales = train.mean(axis=0), channel_scales(train)
    return (train - mean) / scales, (test - mean) / scales


def comparison_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows of `compare_backbones` as a Markdown table, in percent.

    Args:
        rows: name -> accuracies in [0, 1].

    Returns:
        A table of one line for each row, under two lines of header.

    Example:
        ```python
        from pixpro_keras.evaluation import comparison_table

        row = {"image_knn": 0.5, "image_linear": 0.6, "cell_linear": 0.7}
        print(comparison_table({"random": row}))
        ```
    """
    lines = [[name, *(f"{row[key]:.1%}" for key in _COLUMNS)] for name, row in rows.items()]
    return markdown_table(["backbone", *_COLUMNS.values()], lines)


def by_measure(rows: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Arranges the rows of `compare_backbones` by measure.

    Args:
        rows: name -> accuracies in [0, 1].

    Returns:
        Name of a measure -> name of a row -> accuracy.
    """
    return {text: {name: row[key] for name, row in rows.items()} for key, text in _COLUMNS.items()}
