"""Regularization terms against collapse."""

from keras import ops

from pixpro_keras.types import Tensor

__all__ = ["spread_terms"]


def spread_terms(covariance: Tensor, epsilon: float = 1e-4) -> tuple[Tensor, Tensor]:
    """Variance and covariance terms of VICReg.

    Variance: `mean_c max(0, 1 - sqrt(S_cc + epsilon))`. Covariance: `sum_{c != d} S_cd^2 / C`.

    Args:
        covariance: `(C, C)`, S; that of unit-length features times C, from `ops.global_covariance`,
            has a mean diagonal of at most 1.
        epsilon: added to the variances, because the gradient of the root is infinite at 0.

    Returns:
        Two float32 scalars, at least 0. The first is near 1 when all features are the same.

    Reference:
        Bardes et al., ICLR 2022, arXiv:2105.04906, equations 1 to 4.

    Example:
        ```python
        import keras
        from pixpro_keras.losses import spread_terms

        variance, covariance = spread_terms(keras.ops.eye(8))  # 0 and 0
        ```
    """
    covariance = ops.cast(covariance, "float32")
    variances = ops.diagonal(covariance)
    variance_term = ops.mean(ops.relu(1.0 - ops.sqrt(variances + epsilon)))
    others = ops.sum(ops.square(covariance)) - ops.sum(ops.square(variances))
    return variance_term, others / covariance.shape[0]
