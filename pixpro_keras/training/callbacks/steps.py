"""Number of steps done, for callbacks."""

from collections.abc import Mapping

from pixpro_keras.task import Task


def steps_done(logs: Mapping[str, float] | None, model: Task) -> int:
    """Steps since the run's beginning.

    Args:
        logs: the callback's argument of that name. If it has `step`, the model is not asked, which would
            wait for the accelerator.
        model: the model that is trained.

    Example:
        ```python
        from pixpro_keras.task import Task
        from pixpro_keras.training.callbacks.steps import steps_done

        assert steps_done({"step": 7.0}, Task()) == 7
        assert steps_done({}, Task()) == 0
        ```
    """
    return int(logs["step"]) if logs and "step" in logs else model.steps_done()
