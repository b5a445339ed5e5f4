"""A queue of keys of earlier batches, the negatives of MoCo."""

import keras
import tensorflow as tf
from keras import ops

from pixpro_keras.ops import l2_normalize
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["Queue"]


@keras.saving.register_keras_serializable("pixpro_keras")
class Queue(keras.layers.Layer):
    """Queue of the last `size` keys; new keys replace the oldest.

    Filled with random unit vectors at first. Keys are float32 under every dtype policy.

    Args:
        size: number of keys, at least 1; 65536 in MoCo.
        dim: channels of a key, at least 1.
        seed: seed of the first keys; two queues of a method should differ in it.

    Raises:
        ValueError: if `size` or `dim` is less than 1.

    Reference:
        He et al., CVPR 2020, arXiv:1911.05722.

    Example:
        ```python
        import keras
        from pixpro_keras.layers import Queue

        queue = Queue(size=1024, dim=128)
        queue.enqueue(keras.random.normal((8, 128)))
        print(queue.read().shape)  # (1024, 128)
        ```
    """

    def __init__(self, size: int, dim: int, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.size = checks.at_least("size", size, 1)
        self.dim = checks.at_least("dim", dim, 1)
        self.seed = seed
        self.keys = self.add_weight(
            name="keys",
            shape=(size, dim),
            dtype="float32",
            initializer=self._random_unit_vectors,
            trainable=False,
            autocast=False,
        )
        self.position = self.add_weight(
            name="position", shape=(), dtype="int64", initializer="zeros", trainable=False
        )
        self.built = True

    def _random_unit_vectors(self, shape: tuple, dtype: str | None = None) -> Tensor:
        return l2_normalize(keras.random.normal(shape, dtype=dtype, seed=self.seed))

    def read(self) -> Tensor:
        """The keys, `(size, dim)` float32; what is enqueued later does not change them."""
        # Identity reads the variable now; the variable itself would be read on use.
        return tf.identity(ops.convert_to_tensor(self.keys))

    def enqueue(self, keys: Tensor) -> None:
        """Replaces the oldest keys.

        Runs inside a traced step, in replica context. Each replica updates its copy, so all must
        enqueue the same keys, those of the global batch: see `ops.cross_replica_concat`.

        Args:
            keys: `(B, dim)` of a static B that divides `size`.

        Raises:
            ValueError: if the shape does not fit.
        """
        if len(keys.shape) != 2 or keys.shape[0] is None or keys.shape[1] != self.dim:
            raise ValueError(
                f"`keys` must have a static shape of (B, {self.dim}). Received: shape={keys.shape}."
            )
        if self.size % keys.shape[0]:
            raise ValueError(
                "The queue's `size` must be a multiple of the number of keys enqueued at a time, "
                f"the global batch size. Received: size={self.size}, {keys.shape[0]} keys."
            )
        keys = ops.cast(keys, "float32")
        tf.__internal__.distribute.interim.maybe_merge_call(
            _enqueue_on_each_replica,
            tf.distribute.get_strategy(),
            self.keys.value,
            self.position.value,
            keys,
        )

    def get_config(self) -> dict:
        """Constructor arguments."""
        return super().get_config() | {"size": self.size, "dim": self.dim, "seed": self.seed}


def _enqueue_on_each_replica(strategy: tf.distribute.Strategy, queue, position, keys) -> None:
    def write(queue, position, keys):
        # Batches of another size may have left the position at a place that B does not divide.
        rows = (tf.range(keys.shape[0], dtype="int64") + position) % queue.shape[0]
        queue.scatter_update(tf.IndexedSlices(keys, rows))

    def advance(position, keys):
        position.assign((position + keys.shape[0]) % queue.shape[0])

    strategy.extended.update(queue, write, args=(position, keys), group=False)
    strategy.extended.update(position, advance, args=(keys,), group=False)
