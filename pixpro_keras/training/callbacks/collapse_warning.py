"""Warnings about collapsed features and missing positive pairs."""

import keras
from absl import logging

from pixpro_keras.training.callbacks.steps import steps_done


class CollapseWarning(keras.callbacks.Callback):
    """Warns once about collapsed features, and once about missing positive pairs.

    Reads `feature_std` and `positive_share` from the logs, if they are there.

    Args:
        collapsed_std: `feature_std` below which all features count as the same, in [0, 1].

    Example:
        ```python
        from pixpro_keras.training.callbacks import CollapseWarning

        warning = CollapseWarning(collapsed_std=0.02)  # of `callbacks` of `fit`
        ```
    """

    def __init__(self, collapsed_std: float = 0.02):
        super().__init__()
        self._collapsed_std = collapsed_std
        self._warned: set[str] = set()

    def on_train_batch_end(self, batch, logs=None):
        """Checks the newest metrics."""
        logs = logs or {}
        if logs.get("feature_std", 1.0) < self._collapsed_std:
            self._warn_once(
                "feature_std",
                f"The features have collapsed (step {steps_done(logs, self.model)}): their standard "
                f"deviation is {logs['feature_std']:.4f} of at most 1, so all pixels look the same to "
                "the network. Lower the learning rate or raise the batch size.",
            )
        if logs.get("positive_share", 1.0) == 0:
            self._warn_once(
                "positive_share",
                f"No pixel pair was positive up to step {steps_done(logs, self.model)}, so nothing is "
                "learned: the threshold is too small or the crops do not overlap.",
            )

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            logging.warning(message)
