"""Evaluations of the features during the training."""

from collections.abc import Callable, Iterable, Mapping

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.evaluation.confusion_matrix import evaluate_segmentation
from pixpro_keras.evaluation.dense_linear_probe import fit_dense_linear_probe
from pixpro_keras.evaluation.features import extract_features
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.ops import argmax
from pixpro_keras.types import Tensor
from pixpro_keras.utils.checks import at_least


class Monitor:
    """Evaluation at regular steps, for the log of a run.

    Args:
        measure: function that returns values by name and does not change the trained model.
        every_steps: steps between two evaluations, at least 1.

    Example:
        ```python
        import tempfile

        from pixpro_keras.evaluation.monitor import Monitor
        from pixpro_keras.training.callbacks import RunLog

        monitor = Monitor(lambda: {"knn_top1": 0.5}, every_steps=100)
        assert monitor(99) == {}
        assert monitor(100) == {"knn_top1": 0.5}
        log = RunLog(tempfile.mkdtemp(), 100, 10, {}, measurements=[monitor])
        ```
    """

    def __init__(self, measure: Callable[[], Mapping[str, float]], every_steps: int):
        self._measure = measure
        self.every_steps = at_least("every_steps", every_steps, 1)

    def __call__(self, step: int) -> Mapping[str, float]:
        """Evaluates the backbone if the step is due.

        Args:
            step: number of steps done.

        Returns:
            Values by name; empty if the step is not due.
        """
        return self._measure() if step % self.every_steps == 0 else {}


def knn_accuracy(
    backbone: keras.Model,
    train: Iterable[Mapping[str, Tensor]],
    test: Iterable[Mapping[str, Tensor]],
    num_classes: int,
    *,
    k: int = 20,
    strategy: tf.distribute.Strategy | None = None,
) -> float:
    """Top-1 accuracy of k-NN classification of pooled features, in [0, 1].

    Args:
        backbone: `(B, H, W, 3) -> (B, h, w, C)`; runs in inference mode.
        train: batches of labeled training images, as from `features.image_batches`.
        test: the same, of test images.
        num_classes: number of classes; labels are in [0, num_classes).
        k: number of neighbors; fewer if there are fewer training images.
        strategy: strategy whose replicas on this machine share each batch; None is the current one.

    Returns:
        Accuracy in [0, 1].

    Example:
        ```python
        import keras
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.evaluation import knn_accuracy

        images = np.random.rand(8, 16, 16, 3).astype("float32")
        labels = np.arange(8, dtype="int32") % 2
        data = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(4)
        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        print(knn_accuracy(backbone, data, data, num_classes=2, k=3))
        ```
    """
    train_features, test_features = (
        extract_features(backbone, data, strategy=strategy) for data in (train, test)
    )
    scores = weighted_knn(
        train_features.pooled,
        train_features.labels,
        test_features.pooled,
        num_classes=num_classes,
        k=min(k, len(train_features.labels)),
    )
    return top_k_accuracy(scores, test_features.labels)


def dense_linear_miou(
    backbone: keras.Model,
    train: Iterable[tuple[Tensor, Tensor]],
    test: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    *,
    strategy: tf.distribute.Strategy | None = None,
) -> float:
    """Mean intersection over union of the dense linear probe, in [0, 1].

    Args:
        backbone: `(B, H, W, 3) -> (B, h, w, C)`; runs in inference mode.
        train: batches of preprocessed images and masks, 255 is ignored.
        test: the same, of test images.
        num_classes: number of classes of pixels.
        strategy: strategy whose replicas on this machine share each batch; None is the current one.

    Returns:
        Mean over the classes, in [0, 1].

    Example:
        ```python
        import keras
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.evaluation import dense_linear_miou

        images = np.random.rand(4, 16, 16, 3).astype("float32")
        masks = np.tile(np.arange(16) // 8, (4, 16, 1))
        data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(2)
        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        print(dense_linear_miou(backbone, data, data, num_classes=2))
        ```
    """
    classifier = fit_dense_linear_probe(backbone, train, num_classes, strategy=strategy)

    def segment(images: Tensor) -> Tensor:
        return argmax(classifier.logits(images, ops.shape(images)[1:3]), axis=-1)

    segment_batch = over_replicas(segment, strategy=strategy)
    return evaluate_segmentation(segment_batch, test, num_classes).scores().miou
