"""What the features are worth while they are being learned."""

import keras
import tensorflow as tf

from pixpro_keras.evaluation.features import extract_features
from pixpro_keras.evaluation.knn import top_k_accuracy, weighted_knn


class KnnMonitor(keras.callbacks.Callback):
    """Adds the k-NN accuracy of labelled images to the logs, at the end of every so many epochs.

    It stands before the callback that writes the logs. The backbone runs in inference mode, so that
    nothing of the training changes.

    Args:
        backbone: that is being trained, `(B, H, W, 3) -> (B, h, w, C)`.
        train: batches of labelled images whose neighbours vote, as from `features.image_batches`.
        test: the same, of images that are classified.
        num_classes: labels are in [0, num_classes).
        every_epochs: epochs between two looks, at least 1.
        steps_per_epoch: steps in an epoch.
        k: neighbours; fewer where there are not as many training images.
    """

    def __init__(
        self,
        backbone: keras.Model,
        train: tf.data.Dataset,
        test: tf.data.Dataset,
        num_classes: int,
        every_epochs: int,
        steps_per_epoch: int,
        k: int = 20,
    ):
        super().__init__()
        self._backbone = backbone
        self._train = train
        self._test = test
        self._num_classes = num_classes
        self._every_steps = every_epochs * steps_per_epoch
        self._k = k

    def on_train_batch_end(self, batch, logs=None):
        """Looks, after the last step of an epoch."""
        if int(logs["step"]) % self._every_steps == 0:
            logs["knn_top1"] = self.accuracy()

    def accuracy(self) -> float:
        """Top-1 of the test images, in [0, 1]."""
        known, asked = (
            extract_features(self._backbone, data) for data in (self._train, self._test)
        )
        scores = weighted_knn(
            known.pooled,
            known.labels,
            asked.pooled,
            num_classes=self._num_classes,
            k=min(self._k, len(known.labels)),
        )
        return top_k_accuracy(scores, asked.labels)
