"""Losses between whole images.

The contrastive ones also return their top-1, the share of anchors whose positive has the highest logit,
which comes from the same logits.
"""

from keras import ops

from pixpro_keras.ops import l2_normalize
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = ["batch_info_nce", "cross_entropy", "info_nce", "negative_cosine", "nt_xent", "top1"]

# Cosines are tied when they differ by no more: a sum and a product of the same vectors round differently.
TIED_COSINES = 1e-5


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of `-cos(prediction_i, target_i)` over the images.

    Args:
        prediction: `(B, C)`.
        target: `(B, C)`; receives no gradient.

    Returns:
        Scalar float32 in [-1, 1].

    Reference:
        Grill et al., 2020, arXiv:2006.07733.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import negative_cosine

        prediction = keras.random.normal((8, 256))
        print(float(negative_cosine(prediction, 2 * prediction)))  # -1.0
        ```
    """
    target = l2_normalize(ops.stop_gradient(target))
    return -ops.mean(ops.sum(l2_normalize(prediction) * target, axis=-1))


def cross_entropy(logits: Tensor, positive: Tensor) -> Tensor:
    """`-log(exp(logits[i, positive_i]) / sum_k exp(logits[i, k]))`, averaged over the rows.

    Args:
        logits: `(M, K)`, one row for each anchor.
        positive: `(M,)` integers, the column of each row's positive.

    Returns:
        Scalar float32, at least 0; `log(K)` when the logits do not tell the candidates apart.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.losses import cross_entropy

        print(float(cross_entropy(np.zeros((2, 4)), np.array([0, 3]))))  # log(4)
        ```
    """
    logits = ops.cast(logits, "float32")
    return ops.mean(ops.sparse_categorical_crossentropy(positive, logits, from_logits=True))


def top1(logits: Tensor, positive: Tensor, tolerance: float = 0.0) -> Tensor:
    """Share of rows whose positive has the highest logit, for monitoring; has no gradient.

    A tie counts as missed: collapsed features, which make all logits equal, must not score.

    Args:
        logits: `(M, K)`, one row for each anchor.
        positive: `(M,)` integers, the column of each row's positive.
        tolerance: largest difference of a tie.

    Returns:
        Scalar float32 in [0, 1].

    Example:
        ```python
        import numpy as np
        from pixpro_keras.losses import top1

        print(float(top1(np.array([[3.0, 1.0], [2.0, 2.0]]), np.array([0, 1]))))  # 0.5
        ```
    """
    of_positive = ops.take_along_axis(logits, ops.expand_dims(positive, 1), axis=1)
    not_below = logits >= of_positive - tolerance  # The positive is one of them.
    return ops.mean(ops.cast(ops.sum(ops.cast(not_below, "float32"), axis=1) == 1, "float32"))


def nt_xent(
    embeddings1: Tensor,
    embeddings2: Tensor,
    all_embeddings1: Tensor,
    all_embeddings2: Tensor,
    first: int | Tensor,
    temperature: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """NT-Xent, the loss of SimCLR, of the images of one replica.

    `L(i) = -log(exp(cos(z_i, z_j) / tau) / sum_{k != i} exp(cos(z_i, z_k) / tau))`, where j is the
    other view of the same image and k runs over both views of the global batch; averaged over the
    2b anchors. (The authors' code adds the two views instead, which is twice as much: see `SimCLR`.)

    Gradient reaches all four embeddings. The mean of the replicas' losses is the loss of one device
    with the whole batch, and so are its gradients if `all_embeddings` come from
    `ops.cross_replica_concat`.

    Args:
        embeddings1: `(b, C)`. This replica's images in view 1.
        embeddings2: `(b, C)`. The same images in view 2.
        all_embeddings1: `(B, C)`. View 1 of the global batch.
        all_embeddings2: `(B, C)`. View 2 of the global batch.
        first: row of this replica's first image in the global batch; 0 with one replica, where
            the gathered embeddings are the local ones.
        temperature: tau, positive.

    Returns:
        The loss, scalar float32, at least 0. And its top-1, scalar float32 in [0, 1].

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Chen et al., ICML 2020, arXiv:2002.05709, equation 1.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import nt_xent

        z1, z2 = (keras.random.normal((8, 128)) for _ in range(2))
        loss, top1 = nt_xent(z1, z2, z1, z2, first=0, temperature=0.1)
        ```
    """
    anchors = ops.concatenate([embeddings1, embeddings2], axis=0)
    candidates = ops.concatenate([all_embeddings1, all_embeddings2], axis=0)
    cosines = _cosines(anchors, candidates)
    batch_size = all_embeddings1.shape[0]
    in_view1 = _positions(first, embeddings1.shape[0])
    in_view2 = in_view1 + batch_size
    itself = ops.concatenate([in_view1, in_view2], axis=0)
    is_itself = ops.arange(2 * batch_size, dtype="int64") == ops.expand_dims(itself, 1)
    cosines = ops.where(is_itself, -1e9, cosines)
    return _loss_and_top1(cosines, ops.concatenate([in_view2, in_view1], axis=0), temperature)


def info_nce(
    query: Tensor, positive_key: Tensor, negative_keys: Tensor, temperature: float = 0.07
) -> tuple[Tensor, Tensor]:
    """InfoNCE with a queue of negatives, the loss of MoCo.

    `L(i) = -log(exp(cos(q_i, k_i) / tau) / (exp(cos(q_i, k_i) / tau) + sum_n exp(cos(q_i, n) / tau)))`
    with n over the queue, averaged over the queries.

    Args:
        query: `(..., C)`, for instance `(b, C)`.
        positive_key: the query's shape. The key of each query; receives no gradient.
        negative_keys: `(K, C)`, shared by all queries; receives no gradient.
        temperature: tau, positive; 0.07 in MoCo, 0.2 in MoCo v2.

    Returns:
        The loss, scalar float32, at least 0. And its top-1, scalar float32 in [0, 1].

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        He et al., CVPR 2020, arXiv:1911.05722, equation 1.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import info_nce

        query, key = (keras.random.normal((8, 128)) for _ in range(2))
        loss, top1 = info_nce(query, key, keras.random.normal((1024, 128)), temperature=0.2)
        ```
    """
    channels = query.shape[-1]
    query = l2_normalize(ops.reshape(query, (-1, channels)))
    key = l2_normalize(ops.stop_gradient(ops.reshape(positive_key, (-1, channels))))
    of_positive = ops.sum(query * key, axis=1, keepdims=True)
    of_negatives = _cosines(query, ops.stop_gradient(negative_keys))
    cosines = ops.concatenate([of_positive, of_negatives], axis=1)  # (M, 1 + K)
    return _loss_and_top1(cosines, ops.zeros(query.shape[:1], "int64"), temperature)


def batch_info_nce(
    query: Tensor, keys: Tensor, first: int | Tensor, temperature: float = 0.2
) -> tuple[Tensor, Tensor]:
    """InfoNCE whose negatives are the other images of the global batch, one direction.

    `L(i) = -log(exp(cos(q_i, k_{first + i}) / tau) / sum_k exp(cos(q_i, k) / tau))` with k over the
    keys, averaged over the queries. For keys of a momentum encoder. The mean of the replicas'
    losses is the loss of one device with the whole batch.

    Args:
        query: `(b, C)`. This replica's images.
        keys: `(B, C)`. The other view of the global batch; receives no gradient.
        first: row of this replica's first image in `keys`; 0 with one replica.
        temperature: tau, positive.

    Returns:
        The loss, scalar float32, at least 0. And its top-1, scalar float32 in [0, 1].

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        van den Oord et al., 2018, arXiv:1807.03748, equation 4; in this form Chen et al.,
        ICCV 2021 (MoCo v3), arXiv:2104.02057, equation 1.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import batch_info_nce

        query, keys = (keras.random.normal((8, 128)) for _ in range(2))
        loss, top1 = batch_info_nce(query, keys, first=0, temperature=0.2)
        ```
    """
    cosines = _cosines(query, ops.stop_gradient(keys))
    return _loss_and_top1(cosines, _positions(first, query.shape[0]), temperature)


def _loss_and_top1(cosines: Tensor, positive: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logits = cosines / checks.positive("temperature", temperature)
    return cross_entropy(logits, positive), top1(cosines, positive, TIED_COSINES)


def _cosines(rows: Tensor, columns: Tensor) -> Tensor:
    return ops.matmul(l2_normalize(rows), ops.transpose(l2_normalize(columns)))


def _positions(first: int | Tensor, count: int) -> Tensor:
    return ops.cast(first, "int64") + ops.arange(count, dtype="int64")
