"""Linear classification of frozen features by logistic regression."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from pixpro_keras.utils import checks

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


def channel_scales(features: np.ndarray) -> np.ndarray:
    """Divisors that standardize channels: standard deviations, and infinity for nearly constant channels.

    Those would be scaled up from noise, and dominate in other images where they are active.

    Args:
        features: `(M, C)`.

    Returns:
        `(C,)`, positive.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation.logistic_regression import channel_scales

        print(channel_scales(np.array([[0.0, 3.0], [2.0, 3.0]])))  # [ 1. inf]
        ```
    """
    std = features.std(axis=0)
    return np.where(std > 1e-3 * std.max(), std, np.inf)


def fit_logistic_regression(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    l2: float = 1e-4,
    iterations: int = 100,
    is_balanced: bool = False,
) -> "LogisticRegression":
    """Fits multinomial logistic regression by L-BFGS.

    Args:
        features: `(M, C)`, standardized per channel.
        labels: `(M,)`, of at least two classes.
        l2: weight of `|W|^2 / 2` added to the mean cross-entropy, positive.
        iterations: largest number of L-BFGS iterations.
        is_balanced: whether all classes have the same weight, whatever their numbers of examples.

    Returns:
        scikit-learn's model, whose `predict` classifies features.

    Raises:
        ValueError: if there is only one class, or `l2` is not positive.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import fit_logistic_regression

        labels = np.arange(20) % 2
        features = np.stack([labels - 0.5, np.random.rand(20)], axis=1)
        classifier = fit_logistic_regression(features, labels)
        print(np.mean(classifier.predict(features) == labels))
        ```
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    checks.positive("l2", l2)
    model = LogisticRegression(
        C=1 / (l2 * len(features)),
        max_iter=iterations,
        class_weight="balanced" if is_balanced else None,
    )
    with warnings.catch_warnings():
        # The protocol is a fixed number of iterations for every backbone.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)
