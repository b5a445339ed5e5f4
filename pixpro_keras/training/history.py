"""History of a run: the recipe of each step, and the check before the run continues."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping

from pixpro_keras.utils.checks import one_of
from pixpro_keras.utils.files import write_atomically

HISTORY_FILE = "history.json"
ON_CHANGE_ACTIONS = ("stop", "continue")


class RunChangedError(ValueError):
    """Raised if a run would continue with other data or settings than its steps were trained with."""


class FewerStepsError(ValueError):
    """A run that has done more steps than it is asked for."""


@dataclasses.dataclass(frozen=True)
class Period:
    """Steps that were trained with the same recipe.

    Attributes:
        first_step: steps that were done before them.
        recipe: settings of these steps (data, batch size, seed, ...), JSON values; empty if unknown.

    Example:
        ```python
        from pixpro_keras.training import Period

        later = Period(500, {"seed": 0, "batch_size": 64})
        ```
    """

    first_step: int
    recipe: Mapping[str, object]


def read_history(workdir: str | os.PathLike) -> list[Period]:
    """Reads the periods of a run, in their order; an empty list if nothing is recorded.

    Args:
        workdir: the run's directory.

    Raises:
        RunChangedError: if the record is damaged.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training import read_history

        assert read_history(tempfile.mkdtemp()) == []
        ```
    """
    file = pathlib.Path(workdir) / HISTORY_FILE
    try:
        return [
            Period(int(one["first_step"]), dict(one["recipe"]))
            for one in json.loads(file.read_text())
        ]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise RunChangedError(
            f"{file}, which says what the run was trained with, is damaged: {error}"
        ) from error


def write_history(workdir: str | os.PathLike, periods: list[Period]) -> None:
    """Writes the periods of a run.

    Args:
        workdir: the run's directory, which exists.
        periods: periods of the run, in their order.

    Raises:
        OSError: if it cannot be written.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training.history import Period, read_history, write_history

        workdir, periods = tempfile.mkdtemp(), [Period(0, {"seed": 0}), Period(500, {"seed": 1})]
        write_history(workdir, periods)
        assert read_history(workdir) == periods
        ```
    """
    text = json.dumps([dataclasses.asdict(period) for period in periods], indent=2) + "\n"
    write_atomically(pathlib.Path(workdir) / HISTORY_FILE, text.encode())


def find_differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Lists the entries that two recipes share and that differ.

    Args:
        before: recipe of earlier steps.
        now: recipe of the steps to come.

    Example:
        ```python
        from pixpro_keras.training.history import find_differences

        found = find_differences({"seed": 0, "image_size": 224}, {"seed": 1, "image_size": 224})
        assert found == ["seed was 0, is 1"]
        ```
    """
    return [
        f"{name} was {before[name]}, is {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]


def continue_history(
    periods: list[Period],
    first_step: int,
    total_steps: int,
    recipe: Mapping[str, object],
    on_change: str = "stop",
) -> list[Period]:
    """Checks that a run may continue and returns its periods.

    Args:
        periods: recorded periods. Those that begin at or after `first_step` have left no steps.
        first_step: steps done.
        total_steps: steps of the whole run.
        recipe: settings of the steps to come.
        on_change: reaction if the recipe differs from the newest steps': `stop` or `continue`.

    Raises:
        RunChangedError: if the recipe differs; the message lists the differences.
        FewerStepsError: if more steps are done than `total_steps`.

    Example:
        ```python
        from pixpro_keras.training.history import Period, continue_history

        before = [Period(0, {"seed": 0})]
        assert continue_history(before, 500, 1000, {"seed": 0}) == before
        after = continue_history(before, 500, 1000, {"seed": 1}, on_change="continue")
        assert after == [*before, Period(500, {"seed": 1})]
        ```
    """
    one_of("on_change", on_change, ON_CHANGE_ACTIONS)
    recipe = json.loads(json.dumps(dict(recipe)))  # As read back: tuples become lists.
    trained = [period for period in periods if period.first_step < first_step]
    if first_step and not trained:
        trained = [Period(0, {})]  # Converted checkpoints and old versions have no records.
    if trained:
        changed = find_differences(trained[-1].recipe, recipe)
        if changed and on_change == "stop":
            raise RunChangedError(
                f"its {first_step} steps were trained with other settings: {'; '.join(changed)}. Use "
                "another directory for a new run, or --on_change=continue to continue with the new settings"
            )
        if first_step > total_steps:
            raise FewerStepsError(
                f"{first_step} steps are done already, more than the {total_steps} of the whole run"
            )
        *earlier, last = trained
        # A finished run makes no steps, whatever its flags.
        if first_step == total_steps:
            return trained
        if last.recipe and not changed:  # Settings of a newer version are added.
            return [*earlier, Period(last.first_step, {**recipe, **last.recipe})]
    return [*trained, Period(first_step, recipe)]
