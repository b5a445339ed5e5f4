"""The linear probe: classifiers on a frozen backbone, trained by SGD."""

import math
from collections.abc import Sequence
from types import MappingProxyType

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pixpro_keras.evaluation.features import require_map
from pixpro_keras.ops import argmax, check_shape
from pixpro_keras.task import Task
from pixpro_keras.types import LABEL, VIEW1, Batch, Tensor
from pixpro_keras.utils import checks
from pixpro_keras.utils.autotuning import without_autotuning

FEATURES = "features"  # Key of batches that hold features instead of images.


@keras.saving.register_keras_serializable("pixpro_keras")
class LinearProbe(Task):
    """Linear classifiers on the averaged map, one for each learning rate.

    All classifiers see the same features. The loss of each is weighted by its factor, which for SGD
    with momentum and without weight decay is equivalent to training each with its own learning
    rate.

    Args:
        backbone: `(B, H, W, 3) -> (B, h, w, C)`, whose weights are not trained.
        num_classes: number of classes, at least 2; labels are in [0, num_classes).
        learning_rate_factors: factors of the optimizer's learning rate, positive, one for each
            classifier.
        batch_statistics: if True, the backbone runs in training mode while the classifiers are trained:
            batch norm uses the statistics of the batch, and its moving statistics, which are used
            in tests, become those of the training images. This is PixPro's protocol. If False, the
            backbone is fully frozen, which is MoCo's.
        **kwargs: arguments of `Task`.

    Raises:
        ValueError: if there is no factor, one is not positive, there are less than two classes, or the
            backbone does not return a map.

    Reference:
        He et al., CVPR 2020, arXiv:1911.05722, section 4.1; `main_linear.py` of the PixPro release.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.evaluation import LinearProbe

        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        probe = LinearProbe(backbone, num_classes=2)
        batch = {"view1": np.zeros((2, 16, 16, 3), "float32"), "label": np.array([0, 1])}
        print(probe(batch))
        ```
    """

    loss_bounds = MappingProxyType({"classification": (0.0, None)})

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        learning_rate_factors: Sequence[float] = (1.0,),
        batch_statistics: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        is_sound = (math.isfinite(factor) and factor > 0 for factor in learning_rate_factors)
        if not learning_rate_factors or not all(is_sound):
            raise ValueError(
                "`learning_rate_factors` must be positive, finite numbers. "
                f"Received: {list(learning_rate_factors)}."
            )
        self.num_classes = int(checks.at_least("num_classes", num_classes, 2))
        require_map(backbone.output_shape)
        self.backbone = backbone
        self.batch_statistics = batch_statistics
        if batch_statistics:
            # Not layers: a batch norm that is not trainable uses its moving statistics.
            for variable in backbone.trainable_variables:
                variable.trainable = False
        else:
            self.backbone.trainable = False
        self.learning_rate_factors = tuple(float(factor) for factor in learning_rate_factors)
        heads, channels = len(self.learning_rate_factors), backbone.output_shape[-1]
        # Trained as they are tested: within a call, Keras would round them to a mixed policy's 16 bits.
        self.kernels = self.add_weight(
            name="kernels",
            shape=(heads, channels, num_classes),
            initializer=keras.initializers.RandomNormal(stddev=0.01),
            autocast=False,
        )
        self.biases = self.add_weight(
            name="biases", shape=(heads, num_classes), initializer="zeros", autocast=False
        )

    def check_batch(self, batch: Batch) -> None:
        """Raises a ValueError if the labels are not one integer for each image."""
        super().check_batch(batch)
        self.require_keys(batch, FEATURES if FEATURES in batch else VIEW1, LABEL)
        check_shape(LABEL, batch[LABEL], (None,), "(B,): the class of each image, an integer")

    def call(self, batch: Batch, training: bool = False) -> dict[str, Tensor]:
        """The loss term `classification`, and `top1` of the best classifier on the batch.

        Args:
            batch: entries `label`, and `view1` or `features` `(B, C)`.
            training: whether the backbone runs in training mode, if `batch_statistics` is set.

        Returns:
            Scalars by name.
        """
        in_training = training and self.batch_statistics
        logits = self.logits(
            batch[FEATURES] if FEATURES in batch else self.pool(batch[VIEW1], in_training)
        )
        factors = ops.convert_to_tensor(self.learning_rate_factors, "float32")
        rows = ops.reshape(logits, (-1, self.num_classes))  # Those of all classifiers at once.
        labels = ops.tile(batch[LABEL], factors.shape)
        losses = ops.sparse_categorical_crossentropy(labels, rows, from_logits=True)
        is_right = ops.cast(ops.equal(argmax(rows, axis=1), labels), "float32")
        per_head = [
            ops.mean(ops.reshape(x, (factors.shape[0], -1)), axis=1) for x in (losses, is_right)
        ]
        return {"classification": ops.sum(factors * per_head[0]), "top1": ops.max(per_head[1])}

    def pool(self, images: Tensor, training: bool = False) -> Tensor:
        """Features of preprocessed images: `(B, C)` float32, without gradient."""
        maps = ops.cast(self.backbone(images, training=training), "float32")
        return ops.stop_gradient(ops.mean(maps, axis=(1, 2)))

    def logits(self, features: Tensor) -> Tensor:
        """`(B, C)` to `(number of classifiers, B, num_classes)` float32."""
        kernels, biases = ops.cast(self.kernels, "float32"), ops.cast(self.biases, "float32")
        # No einsum, which would transpose the kernels.
        return ops.matmul(features, kernels) + ops.expand_dims(biases, 1)

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "learning_rate_factors": self.learning_rate_factors,
            "batch_statistics": self.batch_statistics,
        }


def feature_batches(
    features: np.ndarray, labels: np.ndarray, batch_size: int, seed: int = 0, start_step: int = 0
) -> tf.data.Dataset:
    """Makes endless batches of features, in an order that depends on seed and step.

    Args:
        features: `(N, C)`.
        labels: `(N,)`.
        batch_size: rows of a batch, at most N; the remainder of a pass is dropped.
        seed: seed of the order, which is a new one in each pass.
        start_step: step of the first batch.

    Returns:
        Data set of `{"features": (B, C), "label": (B,)}`.

    Raises:
        ValueError: if there are fewer rows than in a batch.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import feature_batches

        data = feature_batches(np.zeros((10, 4), "float32"), np.arange(10), batch_size=5)
        print(next(iter(data))["features"].shape)  # (5, 4)
        ```
    """
    checks.in_range("batch_size", batch_size, 1, len(labels))
    per_pass = len(labels) // batch_size
    all_features, all_labels = tf.constant(features), tf.constant(labels)

    def one_pass(number: Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.constant(seed, tf.int64), number])
        order = tf.random.experimental.stateless_shuffle(tf.range(len(labels)), key)
        order = tf.reshape(order[: per_pass * batch_size], (per_pass, batch_size))
        return tf.data.Dataset.from_tensor_slices(order)

    data = tf.data.Dataset.range(start_step // per_pass, np.iinfo(np.int64).max)
    data = without_autotuning(data)
    data = data.flat_map(one_pass).skip(start_step % per_pass)
    return data.map(
        lambda indices: {
            FEATURES: tf.gather(all_features, indices),
            LABEL: tf.gather(all_labels, indices),
        }
    ).prefetch(2)
