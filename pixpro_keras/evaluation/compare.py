"""Backbones side by side, by what their nearest neighbours say."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.batch_norm import reestimate_batch_norm
from pixpro_keras.evaluation.features import IMAGE, Features, extract_features
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn


def compare(
    backbones: Mapping[str, keras.Model],
    train: tf.data.Dataset,
    test: tf.data.Dataset,
    *,
    k: int = 20,
    num_batch_norm_batches: int = 8,
) -> dict[str, dict[str, float]]:
    """k-NN accuracy of pooled features (image labels) and of cell features (masks).

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
        Name -> `image` (top-1 of images), `cell` (top-1 of cells, averaged over the classes, so
        that the background does not count more than an object). The last row, `chance`, is what
        always guessing the same class gives.

    Raises:
        ValueError: if `backbones` is empty or the batches have no masks.
    """
    if not backbones:
        raise ValueError("`backbones` must hold at least one backbone. Received none.")
    rows = {}
    for name, backbone in backbones.items():
        reestimate_batch_norm(backbone, (one[IMAGE] for one in train.take(num_batch_norm_batches)))
        known, asked = (extract_features(backbone, data) for data in (train, test))
        rows[name] = accuracies(known, asked, k)
    rows["chance"] = {
        "image": float(np.mean(asked.labels == np.bincount(known.labels).argmax())),
        "cell": 1 / len(np.unique(asked.cell_labels)),
    }
    return rows


def accuracies(known: Features, asked: Features, k: int) -> dict[str, float]:
    """`image` and `cell` accuracy of one backbone; see `compare`."""
    if not len(known.cells) or not len(asked.cells):
        raise ValueError("`train` and `test` must have masks with labelled pixels. Received none.")
    num_labels = int(known.labels.max()) + 1
    image_scores = weighted_knn(
        *_standardize(known.pooled, known.labels, asked.pooled), num_classes=num_labels, k=k
    )
    num_classes = int(known.cell_labels.max()) + 1
    cell_scores = weighted_knn(
        *_standardize(known.cells, known.cell_labels, asked.cells), num_classes=num_classes, k=k
    )
    # Each class has the same say: else background, most of the cells, outvotes whatever is rarer.
    cell_scores /= np.maximum(np.bincount(known.cell_labels, minlength=num_classes), 1)
    hits = cell_scores.argmax(axis=1) == asked.cell_labels
    per_class = [hits[asked.cell_labels == label].mean() for label in np.unique(asked.cell_labels)]
    return {
        "image": top_k_accuracy(image_scores, asked.labels),
        "cell": float(np.mean(per_class)),
    }


def _standardize(known: np.ndarray, labels: np.ndarray, asked: np.ndarray):
    mean, std = known.mean(axis=0), known.std(axis=0)
    # A channel that is all but constant here would drown the others where it is not.
    std = np.where(std > 1e-3 * std.max(), std, np.inf)
    return (known - mean) / std, labels, (asked - mean) / std


def markdown_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows of `compare` as a Markdown table, in percent."""
    lines = ["| backbone | image k-NN top-1 | cell k-NN, class mean |", "|---|---|---|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row['image']:.1%} | {row['cell']:.1%} |")
    return "\n".join(lines)
