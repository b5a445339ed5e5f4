"""Linear classification of frozen features by logistic regression."""

import warnings

import numpy as np

Array = np.ndarray


def fit_logistic(
    features: Array,
    labels: Array,
    *,
    l2: float = 1e-4,
    iterations: int = 100,
    is_balanced: bool = False,
):
    """Multinomial logistic regression, fitted by L-BFGS.

    Args:
        features: `(M, C)`, standardised per channel.
        labels: `(M,)`, of at least two classes.
        l2: weight of `|W|^2 / 2` beside the mean cross-entropy, positive.
        iterations: at most so many.
        is_balanced: whether each class counts the same, however many examples it has.

    Returns:
        scikit-learn's model.

    Raises:
        ValueError: if there is only one class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=1 / (l2 * len(features)),
        max_iter=iterations,
        class_weight="balanced" if is_balanced else None,
    )
    with warnings.catch_warnings():
        # So many iterations for every backbone is the protocol, as in training for so many epochs.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)


def linear_probe(train_features: Array, train_labels: Array, features: Array, **settings) -> Array:
    """Classes by multinomial logistic regression.

    Args:
        train_features: `(M, C)`, standardised per channel.
        train_labels: `(M,)`, of at least two classes.
        features: `(N, C)`, standardised as the training features.
        **settings: of `fit_logistic`.

    Returns:
        `(N,)` predicted labels.

    Raises:
        ValueError: if there is only one class.
    """
    return fit_logistic(train_features, train_labels, **settings).predict(features)
