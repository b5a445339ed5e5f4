"""Losses between cells of feature maps: DenseCL, and between groups of them: SlotCon."""

from keras import ops

from pixpro_keras.losses import instance
from pixpro_keras.ops import argmax, l2_normalize
from pixpro_keras.types import Tensor
from pixpro_keras.utils import checks

__all__ = [
    "dense_info_nce",
    "match_cells",
    "select_slots",
    "slot_assignment_loss",
    "slot_contrast",
    "slot_presence",
    "take_rows",
]


def match_cells(features_q: Tensor, features_k: Tensor) -> Tensor:
    """Index of the key cell that is most similar to each query cell; has no gradient.

    Args:
        features_q: `(B, N, C)`. Backbone features of the queries' view.
        features_k: `(B, N, C)`. Backbone features of the keys' view.

    Returns:
        `(B, N)` int64: `argmax_j cos(features_q[b, i], features_k[b, j])`.

    Reference:
        Wang et al., CVPR 2021, arXiv:2011.09157, section 3.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import match_cells

        features = keras.random.normal((2, 49, 512))
        print(match_cells(features, features)[0, :3])  # 0, 1, 2
        ```
    """
    cosines = ops.einsum("bic,bjc->bij", l2_normalize(features_q), l2_normalize(features_k))
    return argmax(cosines, axis=2)


def take_rows(values: Tensor, index: Tensor) -> Tensor:
    """Picks rows of each image: `(B, N, C)` and `(B, M)` integers to `(B, M, C)`.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.losses import take_rows

        values = np.arange(6.0).reshape(1, 3, 2)
        print(take_rows(values, np.array([[2, 0]])))  # [[[4, 5], [0, 1]]]
        ```
    """
    return ops.take_along_axis(values, ops.expand_dims(index, 2), axis=1)


def dense_info_nce(
    query: Tensor, matched_keys: Tensor, queue: Tensor, temperature: float = 0.2
) -> tuple[Tensor, Tensor]:
    """InfoNCE of every cell, averaged over cells and images: the dense loss of DenseCL.

    This is `info_nce` with cells in the place of images.

    Args:
        query: `(B, N, C)`. Dense projections of one view.
        matched_keys: `(B, N, C)`. Dense projections of the other view by the momentum encoder,
            `take_rows(keys, match_cells(features_q, features_k))`; receives no gradient.
        queue: `(K, C)`. Dense projections of other images, each averaged over its cells; receives
            no gradient.
        temperature: tau, positive.

    Returns:
        The loss, scalar float32, at least 0. And the share of cells whose positive has the highest
        logit, scalar float32 in [0, 1].

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Wang et al., CVPR 2021, arXiv:2011.09157, section 3.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import dense_info_nce, match_cells, take_rows

        features = keras.random.normal((2, 49, 512))
        query, keys = (keras.random.normal((2, 49, 128)) for _ in range(2))
        matched = take_rows(keys, match_cells(features, features))
        loss, top1 = dense_info_nce(query, matched, keras.random.normal((1024, 128)))
        ```
    """
    return instance.info_nce(query, matched_keys, queue, temperature)


def slot_assignment_loss(
    student_scores: Tensor,
    teacher_scores: Tensor,
    center: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
    mask: Tensor | None = None,
) -> Tensor:
    """Grouping loss of SlotCon, one direction: cross-entropy of a place's slots in both views.

    `L(i) = -sum_k softmax((t_i - center) / tau_t)_k * log softmax(s_i / tau_s)_k`, averaged over
    the cells of an image, then over the batch.

    Args:
        student_scores: `(B, N, K)`. Cosines of the cells of one view and the slots' prototypes.
        teacher_scores: `(B, N, K)`. Scores of the momentum network for the same places in the other
            view; receives no gradient.
        center: `(K,)`. Moving average of the teacher's scores, which keeps one slot from taking
            all cells; receives no gradient.
        student_temperature: tau_s, positive.
        teacher_temperature: tau_t, positive; a lower one sharpens the teacher.
        mask: `(B, N)` of 0 and 1, the cells that count; None: all.

    Returns:
        Scalar float32, at least 0. An image without a cell that counts adds 0.

    Raises:
        ValueError: if a temperature is not positive.

    Reference:
        Wen et al., NeurIPS 2022, arXiv:2205.15288, section 3, and the authors' code.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import slot_assignment_loss

        student, teacher = (keras.random.uniform((2, 49, 16), -1, 1) for _ in range(2))
        loss = slot_assignment_loss(student, teacher, center=keras.ops.zeros(16))
        ```
    """
    checks.positive("student_temperature", student_temperature)
    checks.positive("teacher_temperature", teacher_temperature)
    student = ops.cast(student_scores, "float32") / student_temperature
    teacher = ops.cast(teacher_scores, "float32") - ops.cast(center, "float32")
    assignment = ops.stop_gradient(ops.softmax(teacher / teacher_temperature, axis=2))
    per_cell = -ops.sum(assignment * ops.log_softmax(student, axis=2), axis=2)  # (B, N)
    if mask is None:
        return ops.mean(per_cell)
    mask = ops.cast(mask, "float32")
    count = ops.maximum(ops.sum(mask, axis=1), 1.0)
    return ops.mean(ops.sum(per_cell * mask, axis=1) / count)


def slot_presence(scores: Tensor) -> Tensor:
    """Slots that an image has: those that are the best slot of at least one of its cells.

    Args:
        scores: `(B, N, K)`. Cosines of all cells of a view and the slots' prototypes.

    Returns:
        `(B, K)` float32 of 0 and 1, at most N ones in a row; has no gradient.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.losses import slot_presence

        scores = np.array([[[0.9, 0.1, 0.2], [0.3, 0.1, 0.8]]])
        print(slot_presence(scores))  # [[1, 0, 1]]
        ```
    """
    best = ops.one_hot(argmax(scores, axis=2), scores.shape[2], dtype="float32")
    return ops.max(best, axis=1)


def select_slots(presence: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Positions of the slots that are present, in a static shape.

    A view of N cells has at most N of K slots. With a limit of `min(N, K)` nothing is lost, and the
    contrast needs a few dozen rows for an image where it would need thousands.

    Args:
        presence: `(B, K)` of 0 and 1.
        limit: M, at most K. More slots than that are cut off.

    Returns:
        `(B, M)` int64, the positions of the present slots, in ascending order, then some of absent
        ones. And `(B, M)` float32, 1 for the present.

    Example:
        ```python
        import numpy as np
        from pixpro_keras.losses import select_slots

        index, is_present = select_slots(np.array([[0, 1, 0, 1, 1]]), limit=3)  # [[1, 3, 4]], all 1
        ```
    """
    present, index = ops.top_k(ops.cast(presence, "float32"), limit)
    return ops.cast(index, "int64"), present


def slot_contrast(
    query: Tensor,
    positive: Tensor,
    mask: Tensor,
    keys: Tensor,
    key_mask: Tensor,
    temperature: float = 0.2,
    num_queries: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Slot loss of SlotCon, one direction: InfoNCE between the slots of two views.

    `L(s) = -2 tau log(exp(cos(q_s, k_s) / tau) / sum_k exp(cos(q_s, k) / tau))` with k over the
    slots that the other views of the global batch have, k_s among them; averaged over the queries.
    The factor of 2 tau is from the authors' code; with it the size of gradients hardly depends on
    tau.

    With `in_q` and `in_k` the `slot_presence` of both views, a slot is a query if both views have
    it, and a key if the keys' view has it:

    ```python
    index, mask = select_slots(in_q * in_k, limit)
    query, positive = predictor(take_rows(slots_q, index)), take_rows(slots_k, index)
    key_index, key_mask = select_slots(in_k, limit)
    keys = take_rows(slots_k, key_index)  # Gathered over the replicas, like their mask.
    ```

    Args:
        query: `(b, M, C)`. Predictions from the slots of one view.
        positive: `(b, M, C)`. The same slots of the other view by the momentum network; receives
            no gradient.
        mask: `(b, M)` of 0 and 1, the queries that count.
        keys: `(B, L, C)`. The slots of the global batch's other views, which must have every
            `positive` that counts among them; receives no gradient.
        key_mask: `(B, L)` of 0 and 1, the keys that count.
        temperature: tau, positive.
        num_queries: divisor of the sum over the queries; None: the number of this replica's queries
            that count, as in the authors' code. With the mean of this number over the replicas, the
            mean of their losses is the loss of one device with the whole batch.

    Returns:
        The loss, scalar float32, at least 0. And the share of the queries to which their positive is
        the only nearest key, scalar float32 in [0, 1]. Both are 0 without a query.

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Wen et al., NeurIPS 2022, arXiv:2205.15288, section 3, and the authors' code.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import slot_contrast

        query, positive = (keras.random.normal((2, 4, 64)) for _ in range(2))
        all_count = keras.ops.ones((2, 4))
        loss, top1 = slot_contrast(query, positive, all_count, positive, all_count)
        ```
    """
    checks.positive("temperature", temperature)
    of_keys, of_positive = _slot_cosines(query, positive, keys, key_mask)
    per_query = ops.logsumexp(of_keys / temperature, axis=1) - of_positive / temperature
    mask = ops.reshape(ops.cast(mask, "float32"), (-1,))
    count = ops.sum(mask)
    divisor = count if num_queries is None else ops.cast(num_queries, "float32")
    loss = 2.0 * temperature * ops.sum(mask * per_query) / ops.maximum(divisor, 1e-6)
    # The positive is one of the keys.
    tied = of_keys >= of_positive[:, None] - instance.TIED_COSINES
    nearest = ops.sum(ops.cast(tied, "float32"), axis=1) <= 1
    top1 = ops.sum(mask * ops.cast(nearest, "float32")) / ops.maximum(count, 1.0)
    return loss, top1


def _slot_cosines(
    query: Tensor, positive: Tensor, keys: Tensor, key_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosines of each query with all keys, `(b * M, B * L)`, and with its positive, `(b * M,)`.

    Cosines with masked keys are large negative numbers.
    """
    channels = query.shape[-1]
    query = l2_normalize(ops.reshape(query, (-1, channels)))
    positive = l2_normalize(ops.stop_gradient(ops.reshape(positive, (-1, channels))))
    keys = l2_normalize(ops.stop_gradient(ops.reshape(keys, (-1, channels))))
    key_mask = ops.reshape(ops.cast(key_mask, "float32"), (1, -1))
    of_keys = ops.where(key_mask > 0, ops.matmul(query, ops.transpose(keys)), -1e9)
    return of_keys, ops.sum(query * positive, axis=1)
