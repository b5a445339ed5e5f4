"""Small tensor functions that losses, layers and methods share."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
from keras import ops

from pixpro_keras.types import Tensor

__all__ = [
    "MAX_ROWS",
    "LazyRows",
    "argmax",
    "blockwise",
    "check_shape",
    "cross_replica_concat",
    "cross_replica_mean",
    "effective_rank",
    "feature_std",
    "global_covariance",
    "l2_normalize",
    "lazy_rows",
    "replica_index",
    "to_pixels",
]

# Largest number of rows of a block in `blockwise`. Without blocks, comparisons of all pixels would be the
# largest tensors of a step.
MAX_ROWS = 1024


def argmax(x: Tensor, axis: int) -> Tensor:
    """Index of the largest value along an axis, the first one of ties, int64.

    Not `keras.ops.argmax`, which looks for -0.0 first: five passes over `x`, one of them over int32.
    Where a GPU runs the rest, TensorFlow copies int32 to the host and computes there, but not int64.

    Example:
        ```python
        from pixpro_keras.ops import argmax

        print(argmax([[0.1, 0.7, 0.7]], axis=1))  # 1
        ```
    """
    return tf.argmax(x, axis)


def l2_normalize(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """Scales vectors along the last axis to unit length, in float32.

    A vector shorter than `epsilon` is returned as it is, with the gradient of the identity:
    `keras.ops.normalize` has a gradient of 1e12 there, which is NaN in mixed_float16.

    Args:
        x: `(..., C)`.
        epsilon: length below which a vector counts as zero.

    Returns:
        `(..., C)` float32.

    Example:
        ```python
        from pixpro_keras.ops import l2_normalize

        print(l2_normalize([[3.0, 4.0], [0.0, 0.0]]))  # [[0.6, 0.8], [0, 0]]
        ```
    """
    x = ops.cast(x, "float32")
    squared = ops.sum(ops.square(x), axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.where(squared > epsilon**2, squared, 1.0))


def to_pixels(feature_map: Tensor) -> Tensor:
    """Flattens maps `(B, h, w, C)` to `(B, h * w, C)`, pixels in row-major order.

    Raises:
        ValueError: if h or w is not known, as of images of unknown size.

    Example:
        ```python
        import keras
        from pixpro_keras.ops import to_pixels

        print(to_pixels(keras.ops.zeros((2, 7, 7, 256))).shape)  # (2, 49, 256)
        ```
    """
    height, width, channels = feature_map.shape[1:]
    if height is None or width is None:
        raise ValueError(
            "maps must have a static height and width, and so must images: `tf.ensure_shape` states that of "
            f"a data set. Received: a map of the shape {tuple(feature_map.shape)}."
        )
    return ops.reshape(feature_map, (-1, height * width, channels))


class LazyRows(NamedTuple):
    """A tensor `(B, N, ...)` of which `blockwise` computes only the rows that it is working on.

    Attributes:
        function: maps R rows of `inputs`, `(B, R, ...)`, to the same rows of the tensor. Tensors that
            it captures receive no gradient.
        inputs: `(B, N, ...)`.

    Example:
        ```python
        import keras
        from pixpro_keras.ops import LazyRows

        x = keras.random.normal((2, 6, 3))
        squares = LazyRows(keras.ops.square, x)
        print(squares.function(squares.inputs).shape)  # (2, 6, 3)
        ```
    """

    function: Callable[[Tensor], Tensor]
    inputs: Tensor


def lazy_rows(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor | LazyRows:
    """Result of a function of rows: computed at once up to `MAX_ROWS` rows, else by `blockwise`.

    Args:
        function: see `LazyRows`.
        inputs: `(B, N, ...)`.

    Example:
        ```python
        import keras
        from pixpro_keras.ops import lazy_rows

        print(lazy_rows(keras.ops.square, keras.random.normal((2, 6, 3))).shape)  # (2, 6, 3)
        ```
    """
    return function(inputs) if inputs.shape[1] <= MAX_ROWS else LazyRows(function, inputs)


def blockwise(
    function: Callable[..., Tensor],
    rows: Sequence[Tensor | LazyRows],
    whole: Sequence[Tensor] = (),
) -> Tensor:
    """Applies a function to all rows, at most `MAX_ROWS` at a time, to save memory.

    More rows are cut into blocks, which are computed one after the other, and again in the backward
    pass, so that only the results are kept. Comparing N rows with N others then takes memory in
    proportion to N, not N^2.

    Args:
        function: maps `(B, R, ...)` tensors, one for each of `rows`, and those of `whole` to
            `(B, R, ...)` float32. Tensors that it captures receive no gradient.
        rows: `(B, N, ...)` each, cut into blocks of R rows; R is the largest divisor of N up to
            `MAX_ROWS`.
        whole: passed on uncut.

    Returns:
        `(B, N, ...)` float32.

    Example:
        ```python
        import keras
        from pixpro_keras.ops import blockwise

        x = keras.random.normal((2, 5000, 8))
        nearest = blockwise(
            lambda some, every: keras.ops.max(some @ keras.ops.transpose(every, (0, 2, 1)), axis=2),
            [x],
            [x],
        )
        print(nearest.shape)  # (2, 5000)
        ```
    """
    functions = [x.function if isinstance(x, LazyRows) else _identity for x in rows]
    inputs = [x.inputs if isinstance(x, LazyRows) else x for x in rows]
    count = inputs[0].shape[1]
    num_blocks = next(n for n in range(-(-count // MAX_ROWS), count + 1) if count % n == 0)

    def compute(*arguments: Tensor) -> Tensor:
        some = [make(x) for make, x in zip(functions, arguments, strict=False)]
        return function(*some, *arguments[len(some) :])

    if num_blocks == 1:
        return compute(*inputs, *whole)

    def cut(x: Tensor) -> Tensor:
        blocks = ops.reshape(x, (-1, num_blocks, count // num_blocks, *x.shape[2:]))
        return ops.moveaxis(blocks, 1, 0)

    results = tf.map_fn(
        lambda blocks: tf.recompute_grad(compute)(*blocks, *whole),
        tuple(cut(x) for x in inputs),
        parallel_iterations=1,
        fn_output_signature=tf.float32,
    )
    results = ops.moveaxis(results, 0, 1)
    return ops.reshape(results, (-1, count, *results.shape[3:]))


def _identity(x: Tensor) -> Tensor:
    return x


def feature_std(vectors: Tensor) -> Tensor:
    """Standard deviation of unit-length features, averaged over channels, times `sqrt(C)`.

    0 when all features are the same (collapse), at most 1; has no gradient.

    Args:
        vectors: `(..., C)`.

    Returns:
        Scalar float32 in [0, 1].

    Example:
        ```python
        import keras
        from pixpro_keras.ops import feature_std

        print(float(feature_std(keras.ops.ones((8, 4)))))  # 0.0: collapsed
        ```
    """
    channels = vectors.shape[-1]
    unit = ops.reshape(l2_normalize(ops.stop_gradient(vectors)), (-1, channels))
    return ops.mean(ops.std(unit, axis=0)) * channels**0.5


def effective_rank(vectors: Tensor, epsilon: float = 1e-7) -> Tensor:
    """RankMe, the number of directions over which features spread.

    `exp(-sum_k p_k log p_k)` with `p_k = s_k / sum(s) + epsilon`, where `s` are the singular values of the
    `(N, C)` matrix of all vectors: 1 when all lie on a line through 0, at most `min(N, C)`. They come
    from the eigenvalues of the smaller product of the matrix with itself, in float64. It has no gradient.

    Args:
        vectors: `(..., C)`, neither centered nor scaled, as in the paper.
        epsilon: added to the shares, for the logarithm.

    Returns:
        Scalar float32, at least about 1.

    Reference:
        Garrido et al., ICML 2023, arXiv:2210.02885, equation 1.

    Example:
        ```python
        import keras
        from pixpro_keras.ops import effective_rank

        print(float(effective_rank(keras.ops.ones((8, 4)))))  # 1.0: collapsed
        print(float(effective_rank(keras.ops.eye(4))))  # 4.0
        ```
    """
    channels = vectors.shape[-1]
    matrix = tf.reshape(tf.cast(ops.stop_gradient(vectors), tf.float64), (-1, channels))
    product = tf.matmul(matrix, matrix, transpose_a=True)
    if matrix.shape[0] is not None and matrix.shape[0] < channels:
        product = tf.matmul(matrix, matrix, transpose_b=True)
    singular = tf.sqrt(tf.maximum(tf.linalg.eigvalsh(product), 0))
    shares = tf.math.divide_no_nan(singular, tf.reduce_sum(singular)) + epsilon
    return tf.cast(tf.exp(-tf.reduce_sum(shares * tf.math.log(shares))), tf.float32)


def replica_index() -> Tensor:
    """Position of this replica among all replicas: scalar int32, 0 with one replica.

    Times the local batch size it is the row of this replica's first image in what
    `cross_replica_concat` returns.

    Raises:
        RuntimeError: if called outside replica context.

    Example:
        ```python
        from pixpro_keras.ops import replica_index

        print(int(replica_index()))  # 0
        ```
    """
    return tf.cast(_replica_context().replica_id_in_sync_group, "int32")


def cross_replica_concat(tensor: Tensor) -> Tensor:
    """Concatenates a tensor over the replicas along its first axis, in the replicas' order.

    Runs in replica context, in a traced step; every replica must call it. Gradients flow back to
    all replicas: each gets the sum, over the replicas' losses, of what its rows contributed. So
    with losses divided by the number of replicas, gradients summed over the replicas are those of
    one device with the whole batch. Stop the gradient before this call where none is needed, which
    saves an all-reduce.

    Args:
        tensor: `(b, ...)` of numbers, of the same static shape on every replica.

    Returns:
        `(num_replicas * b, ...)`, the same on every replica; `tensor` itself with one replica.

    Raises:
        ValueError: if the shape is not static.
        RuntimeError: if called outside replica context.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.ops import cross_replica_concat

        strategy = tf.distribute.get_strategy()
        print(strategy.run(cross_replica_concat, [tf.ones((4, 3))]).shape)  # (4, 3) with one replica
        ```
    """
    replica = _replica_context()
    num_replicas = replica.num_replicas_in_sync
    if num_replicas == 1:
        return tensor
    tensor = tf.convert_to_tensor(tensor)
    if not tensor.shape.is_fully_defined():
        raise ValueError(f"`tensor` must have a static shape. Received: shape={tensor.shape}.")
    # A sum over blocks of which all but one are zero needs only an all-reduce, which every strategy
    # has (TPUs too), and whose gradient is the all-reduce of the gradients.
    blocks = tf.scatter_nd([[replica_index()]], tensor[tf.newaxis], [num_replicas, *tensor.shape])
    blocks = replica.all_reduce(tf.distribute.ReduceOp.SUM, blocks)
    return tf.reshape(blocks, (-1, *tensor.shape[1:]))


def cross_replica_mean(tensor: Tensor) -> Tensor:
    """Mean of a tensor over the replicas, with its gradient. In replica context, in a traced step.

    Raises:
        RuntimeError: if called outside replica context.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.ops import cross_replica_mean

        strategy = tf.distribute.get_strategy()
        print(strategy.run(cross_replica_mean, [tf.constant(2.0)]))  # 2 with one replica
        ```
    """
    replica = _replica_context()
    if replica.num_replicas_in_sync == 1:
        return tensor
    # all_reduce(MEAN) has no gradient.
    total = replica.all_reduce(tf.distribute.ReduceOp.SUM, tensor)
    return total / replica.num_replicas_in_sync


def global_covariance(vectors: Tensor) -> Tensor:
    """Covariance of unit-length features of the global batch, times C. In replica context.

    Its diagonal is 0 when all features are the same, and 1 on average when they spread over all
    directions: the squares of what `feature_std` averages.

    Args:
        vectors: `(..., C)`, as many on every replica.

    Returns:
        `(C, C)` float32.

    Raises:
        RuntimeError: if called outside replica context.

    Example:
        ```python
        import keras
        from pixpro_keras.ops import global_covariance

        print(global_covariance(keras.random.normal((8, 49, 16))).shape)  # (16, 16)
        ```
    """
    channels = vectors.shape[-1]
    unit = ops.reshape(l2_normalize(vectors), (-1, channels))
    count = ops.cast(ops.shape(unit)[0], "float32")
    # Not `E[xx'] - mm'`, which of nearly equal features is only rounding, and may be negative.
    centered = unit - cross_replica_mean(ops.mean(unit, axis=0))
    return channels * cross_replica_mean(ops.matmul(ops.transpose(centered), centered) / count)


def _replica_context() -> tf.distribute.ReplicaContext:
    replica = tf.distribute.get_replica_context()
    if replica is None:
        raise RuntimeError("Must be called in replica context, inside `strategy.run`.")
    return replica


def check_shape(name: str, value: Tensor, expected: tuple[int | None, ...], meaning: str) -> None:
    """Checks the shape of a tensor as far as it is known.

    Args:
        name: name of the argument, or key of a batch, for the error.
        value: tensor or array.
        expected: sides of its shape; None is any side.
        meaning: shape and contents, for the error.

    Raises:
        ValueError: if its shape is another one.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.ops import check_shape

        check_shape("label", np.array([0, 1]), (None,), "(B,): the class of each image")
        ```
    """
    found = tf.TensorShape(value.shape)
    if not found.is_compatible_with(expected):
        raise ValueError(f"`{name}` must have the shape {meaning}. Received: shape={found}.")
