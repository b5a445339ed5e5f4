"""Quality of the features while they are being learned."""

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.evaluation.dense_linear_probe import fit_cells
from pixpro_keras.evaluation.features import extract_features
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.segmentation.inference import evaluate
from pixpro_keras.types import Tensor
from pixpro_keras.utils.checks import positive


class Monitor:
    """Measurement that is due every so many steps, for the log of a run.

    Args:
        measure: function that returns values by name, and changes nothing of what is trained.
        every_steps: steps between two measurements, at least 1.

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
        self._every_steps = int(positive("every_steps", every_steps))

    def __call__(self, step: int) -> Mapping[str, float]:
        """Measures, when it is time.

        Args:
            step: steps done since the run's beginning.

        Returns:
            Values by name; none when it is not time.
        """
        return self._measure() if step % self._every_steps == 0 else {}


def knn_accuracy(
    backbone: keras.Model,
    train: tf.data.Dataset,
    test: tf.data.Dataset,
    num_classes: int,
    *,
    k: int = 20,
    strategy: tf.distribute.Strategy | None = None,
) -> float:
    """Top-1 of test images by the neighbours of their pooled features, in [0, 1].

    Args:
        backbone: `(B, H, W, 3) -> (B, h, w, C)`; runs in inference mode.
        train: batches of labelled images whose neighbours vote, as from `features.image_batches`.
        test: the same, of images that are classified.
        num_classes: labels are in [0, num_classes).
        k: neighbours; fewer where there are not as many training images.
        strategy: whose replicas on this machine share each batch.
    """
    known, asked = (extract_features(backbone, data, strategy=strategy) for data in (train, test))
    scores = weighted_knn(
        known.pooled,
        known.labels,
        asked.pooled,
        num_classes=num_classes,
        k=min(k, len(known.labels)),
    )
    return top_k_accuracy(scores, asked.labels)


def cells_miou(
    backbone: keras.Model,
    train: tf.data.Dataset,
    test: tf.data.Dataset,
    num_classes: int,
    *,
    strategy: tf.distribute.Strategy | None = None,
) -> float:
    """Mean intersection over union by logistic regression of the map's cells, in [0, 1].

    Args:
        backbone: `(B, H, W, 3) -> (B, h, w, C)`; runs in inference mode.
        train: batches of preprocessed images and masks, as from `mask_pipeline.image_batches`.
        test: the same, of images that are segmented.
        num_classes: classes of pixels.
        strategy: whose replicas on this machine share each batch.
    """
    classifier = fit_cells(backbone, train, num_classes, strategy=strategy)
    batch_size = next(iter(test))[0].shape[0]

    def segment(images: Tensor) -> Tensor:
        return ops.argmax(classifier.logits(images, ops.shape(images)[1:3]), axis=-1)

    spread = over_replicas(segment, batch_size, strategy)
    return evaluate(spread, test, num_classes).scores().miou
