"""The dense linear probe without hyperparameters: logistic regression of the cells of a frozen map."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pixpro_keras.evaluation.features import frozen_map
from pixpro_keras.evaluation.logistic_regression import channel_scales, fit_logistic_regression
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.types import IGNORED, Tensor


class DenseLinearClassifier:
    """A linear classifier of the cells of a map, enlarged to pixels.

    Args:
        network: `(B, H, W, 3) -> (B, h, w, C)`; runs in inference mode.
        kernel: `(C, num_classes)`.
        bias: `(num_classes,)`.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.evaluation import DenseLinearClassifier

        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        classifier = DenseLinearClassifier(backbone, np.ones((4, 2)), np.zeros(2))
        print(classifier.logits(np.zeros((1, 16, 16, 3)), (16, 16)).shape)  # (1, 16, 16, 2)
        ```
    """

    def __init__(self, network: keras.Model, kernel: np.ndarray, bias: np.ndarray):
        self.network = network
        self.kernel = tf.constant(kernel, "float32")
        self.bias = tf.constant(bias, "float32")

    def logits(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Scores of each pixel, bilinearly enlarged.

        Args:
            images: `(B, H, W, 3)`, preprocessed.
            size: height and width of the scores.

        Returns:
            `(B, height, width, num_classes)` float32.
        """
        maps = frozen_map(self.network, images)
        return tf.image.resize(ops.matmul(maps, self.kernel) + self.bias, size, "bilinear")


def fit_dense_linear_probe(
    network: keras.Model,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    *,
    l2: float = 1e-4,
    iterations: int = 100,
    strategy: tf.distribute.Strategy | None = None,
) -> DenseLinearClassifier:
    """Fits a linear classifier to whole images, each cell labeled by the pixel at its center.

    Standardizes the channels over all cells, then fits multinomial logistic regression by L-BFGS. Nearly
    constant channels are not used. All cells are held in memory.

    Args:
        network: `(B, H, W, 3) -> (B, h, w, C)`; runs in inference mode.
        batches: images `(B, H, W, 3)`, preprocessed, and masks `(B, H, W)`, 255 is ignored.
        num_classes: number of classes; a class that does not occur is never predicted.
        l2: weight of `|W|^2 / 2` added to the mean cross-entropy, positive.
        iterations: largest number of L-BFGS iterations.
        strategy: strategy whose replicas on this machine share each batch; None is the current one.

    Returns:
        The classifier, with the standardization in its weights.

    Raises:
        ValueError: if the labeled cells have fewer than two classes, or one that is not in
            [0, num_classes), masks or the network's outputs have another shape, or there is no batch.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.evaluation import fit_dense_linear_probe

        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        images = np.random.rand(2, 16, 16, 3).astype("float32")
        masks = np.tile(np.arange(16) // 8, (2, 16, 1))
        probe = fit_dense_linear_probe(backbone, [(images, masks)], 2)
        print(probe.logits(images, (16, 16)).shape)  # (2, 16, 16, 2)
        ```
    """

    def run(images: Tensor) -> Tensor:
        return frozen_map(network, images)

    spread = over_replicas(run, strategy=strategy)
    features, labels = [], []
    for images, masks in batches:
        if np.ndim(masks) != 3:
            raise ValueError(f"masks must be (B, H, W). Received: the shape {np.shape(masks)}.")
        maps = spread(images)
        features.append(maps.reshape(-1, maps.shape[-1]))
        labels.append(center_labels(np.asarray(masks), maps.shape[1:3]).ravel())
    if not features:
        raise ValueError("`batches` must hold at least one batch. Received none.")
    cells, classes = np.concatenate(features), np.concatenate(labels)
    mean, scales = cells.mean(axis=0), channel_scales(cells) + 1e-6
    is_labeled = classes != IGNORED
    found = np.unique(classes[is_labeled])
    if len(found) < 2:
        raise ValueError(
            f"the {len(classes)} cells of the training images must have at least two classes; their "
            f"centers have {f'only class {found[0]}' if len(found) else 'no class'}"
        )
    if found[0] < 0 or found[-1] >= num_classes:
        raise ValueError(
            f"the classes of masks must be in [0, {num_classes}), or {IGNORED} where they are ignored. "
            f"Received: {found[0]} to {found[-1]}."
        )
    model = fit_logistic_regression(
        (cells[is_labeled] - mean) / scales, classes[is_labeled], l2=l2, iterations=iterations
    )
    weights, offsets = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn has one row of scores for two classes.
        weights, offsets = (np.stack([np.zeros_like(x[0]), x[0]]) for x in (weights, offsets))
    # The standardization is merged into the classifier.
    kernel = np.zeros((cells.shape[1], num_classes))
    bias = np.full(num_classes, -1e9)
    kernel[:, model.classes_] = (weights / scales).T
    bias[model.classes_] = offsets - (weights / scales) @ mean
    return DenseLinearClassifier(network, kernel, bias)


def center_labels(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Class at the center of each cell of a map laid on the mask.

    Args:
        masks: `(B, H, W)` classes.
        size: height and width `(h, w)` of the map.

    Returns:
        `(B, h, w)`.
    """
    rows, columns = (
        ((np.arange(n) + 0.5) * length / n).astype(int)
        for n, length in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows][:, :, columns]
