"""Backbones side by side, by what their frozen features say of labelled images."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.features import IMAGE, Features, extract_features
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn
from pixpro_keras.evaluation.logistic_regression import linear_probe
from pixpro_keras.evaluation.precise_bn import reestimate_batch_norm


def compare(
    backbones: Mapping[str, keras.Model],
    train: tf.data.Dataset,
    test: tf.data.Dataset,
    *,
    k: int = 20,
    num_batch_norm_batches: int = 8,
) -> dict[str, dict[str, float]]:
    """Accuracy of pooled features (image labels) and of cell features (masks).

    All are measured alike: batch-norm statistics are first measured anew on training images, since
    those of an untrained network say nothing about its activations; features are then standardised
    per channel with the training features' statistics.

    Args:
        backbones: name -> `(B, H, W, 3) -> (B, h, w, C)`. Their batch-norm statistics change.
        train: batches as from `labelled_batches`, with masks.
        test: the same, of other images.
        k: neighbours.
        num_batch_norm_batches: training batches for the batch-norm statistics.

    Returns:
        Name -> `image_knn` and `image_linear` (top-1 of images by their neighbours and by logistic
        regression), `cell_linear` (top-1 of cells by logistic regression, averaged over the classes,
        so that the background does not count more than an object). The last row, `chance`, is what
        always guessing the same class gives.

    Raises:
        ValueError: if `backbones` is empty or the batches have no masks.
    """
    if not backbones:
        raise ValueError("`backbones` must hold at least one backbone. Received none.")
    rows = {}
    for name, backbone in backbones.items():
        reestimate_batch_norm(backbone, (one[IMAGE] for one in train.take(num_batch_norm_batches)))
        known, asked = (
            extract_features(backbone, data, cells_per_image=16) for data in (train, test)
        )
        rows[name] = accuracies(known, asked, k)
    commonest = float(np.mean(asked.labels == np.bincount(known.labels).argmax()))
    rows["chance"] = {
        "image_knn": commonest,
        "image_linear": commonest,
        "cell_linear": 1 / len(np.unique(asked.cell_labels)),
    }
    return rows


def accuracies(known: Features, asked: Features, k: int) -> dict[str, float]:
    """Accuracies of one backbone; see `compare`."""
    if not len(known.cells) or not len(asked.cells):
        raise ValueError("`train` and `test` must have masks with labelled pixels. Received none.")
    images = _standardize(known.pooled, known.labels, asked.pooled)
    scores = weighted_knn(*images, num_classes=int(known.labels.max()) + 1, k=k)
    cells = _standardize(known.cells, known.cell_labels, asked.cells)
    # Each class has the same say: else background, most of the cells, would be all that counts.
    hits = linear_probe(*cells, is_balanced=True) == asked.cell_labels
    per_class = [hits[asked.cell_labels == label].mean() for label in np.unique(asked.cell_labels)]
    return {
        "image_knn": top_k_accuracy(scores, asked.labels),
        "image_linear": float(np.mean(linear_probe(*images) == asked.labels)),
        "cell_linear": float(np.mean(per_class)),
    }


def _standardize(known: np.ndarray, labels: np.ndarray, asked: np.ndarray):
    mean, std = known.mean(axis=0), known.std(axis=0)
    # A channel that is all but constant here would drown the others where it is not.
    std = np.where(std > 1e-3 * std.max(), std, np.inf)
    return (known - mean) / std, labels, (asked - mean) / std


def markdown_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows of `compare` as a Markdown table, in percent."""
    lines = [
        "| backbone | image k-NN, top-1 | image linear, top-1 | cell linear, class mean |",
        "|---|---|---|---|",
    ]
    for name, row in rows.items():
        values = " | ".join(f"{row[k]:.1%}" for k in ("image_knn", "image_linear", "cell_linear"))
        lines.append(f"| {name} | {values} |")
    return "\n".join(lines)
