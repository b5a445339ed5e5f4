"""Experiment trackers: a run's scalars, pictures and files in Weights & Biases or MLflow."""

import abc
import contextlib
import json
import os
import pathlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from absl import logging

from pixpro_keras.utils import checks
from pixpro_keras.utils.errors import first_line
from pixpro_keras.utils.files import write_atomically

TRACKERS = ("wandb", "mlflow")
PROJECT = "pixpro_keras"
# File with the identifier of the run at each tracker, to continue it there.
_IDS_FILE = "tracker.json"
# Files of a run's directory that are sent, besides pictures.
_FILES = ("flags.cfg", "export/README.md", "*.md")


class Tracker(abc.ABC):
    """Run in an experiment tracker. After its start, errors never end a training; the first one is logged.

    Args:
        workdir: the run's directory. Pictures that appear in it are sent along with the scalars.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training import Tracker

        class Print(Tracker):
            run_id = "1"

            def send_scalars(self, step, values):
                print(step, values)

            def send_picture(self, step, name, file):
                print(step, name)

            def send_file(self, file):
                print(file)

            def end(self, is_complete):
                print("end")

        Print(tempfile.mkdtemp()).log(10, {"train/loss": 0.5})
        ```
    """

    def __init__(self, workdir: str | os.PathLike):
        # Set where a signal ends the training, which then is not complete.
        self.is_stopped = False
        self._workdir = pathlib.Path(workdir)
        self._started = time.time()
        self._sent: dict[pathlib.Path, int] = {}
        self._step = 0
        self._has_failed = False

    @property
    @abc.abstractmethod
    def run_id(self) -> str:
        """The identifier that the tracker gave the run."""

    @abc.abstractmethod
    def send_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Sends values by name."""

    @abc.abstractmethod
    def send_picture(self, step: int, name: str, file: pathlib.Path) -> None:
        """Sends a PNG file."""

    @abc.abstractmethod
    def send_file(self, file: pathlib.Path) -> None:
        """Sends a file as an artifact."""

    @abc.abstractmethod
    def end(self, is_complete: bool) -> None:
        """Ends the run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Sends the scalars of a step, and the pictures that are new.

        Args:
            step: steps done.
            values: scalars by name.
        """
        self._step = step
        with self._survive():
            self.send_scalars(step, values)
            self._send_pictures()

    def finish(self, is_complete: bool) -> None:
        """Sends the last pictures, results, flags, model card and tables, and ends the run.

        Args:
            is_complete: False after an error or a signal.
        """
        with self._survive():
            self._send_pictures()
            results = self._results()
            if results:
                self.send_scalars(self._step, results)
            files = {file for pattern in _FILES for file in self._workdir.glob(pattern)}
            for file in sorted(files):
                self.send_file(file)
        with self._survive():
            self.end(is_complete)

    def _results(self) -> dict[str, float]:
        """Results of the final tests, from the `NAME.json` beside each table `NAME.md`."""
        numbers: dict[str, float] = {}
        for table in sorted(self._workdir.glob("*.md")):
            file = table.with_suffix(".json")
            content = json.loads(file.read_text()) if file.exists() else None
            if isinstance(content, dict):
                numbers |= {
                    # Only characters that all trackers allow.
                    "eval/" + re.sub(r"[^\w\-. /]", "_", name): float(value)
                    for name, value in content.items()
                    if isinstance(value, int | float) and not isinstance(value, bool)
                }
        return numbers

    def _send_pictures(self) -> None:
        for file in sorted([*self._workdir.glob("*.png"), *self._workdir.glob("pictures/*.png")]):
            changed = file.stat().st_mtime_ns
            # Older pictures were sent before the run was continued.
            if changed > self._sent.get(file, int(self._started * 1e9)):
                name = file.stem.rstrip("0123456789").rstrip("_")
                self.send_picture(self._step, f"pictures/{name}", file)
                self._sent[file] = changed

    @contextlib.contextmanager
    def _survive(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Clients raise different errors.
            if not self._has_failed:
                logging.warning(
                    "%s is no longer updated, or incomplete; metrics.jsonl has everything: %s",
                    type(self).__name__.lstrip("_"),
                    first_line(error),
                )
            self._has_failed = True


class _Wandb(Tracker):
    """Run at Weights & Biases; with `WANDB_MODE=offline` in `wandb/` of the run's directory."""

    def __init__(self, workdir: pathlib.Path, run_id: str | None, config: Mapping[str, Any]):
        super().__init__(workdir)
        try:
            import wandb
        except ImportError as error:
            raise ImportError(_how_to_install("wandb")) from error

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=workdir.absolute().name,
            dir=workdir,
            id=run_id,
            resume="allow" if run_id else None,
            config=dict(config),
            allow_val_change=True,
            # Keeps the client from writing to the terminal.
            settings=wandb.Settings(console="off", quiet=True),
        )

    @property
    def run_id(self) -> str:
        return self._run.id

    def send_scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def send_picture(self, step: int, name: str, file: pathlib.Path) -> None:
        self._run.log({name: self._wandb.Image(str(file))}, step=step)

    def send_file(self, file: pathlib.Path) -> None:
        # Any other character is refused in the name of an artifact.
        artifact = self._wandb.Artifact(f"{self.run_id}-{file.stem}", type="report")
        artifact.add_file(str(file))
        self._run.log_artifact(artifact)

    def end(self, is_complete: bool) -> None:
        self._run.finish(exit_code=0 if is_complete else 1)


class _MLflow(Tracker):
    """Run at the server of `MLFLOW_TRACKING_URI`, or in `mlflow.db` of the run's directory."""

    def __init__(self, workdir: pathlib.Path, run_id: str | None, config: Mapping[str, Any]):
        super().__init__(workdir)
        try:
            import mlflow
            from mlflow.entities import Metric, Param
        except ImportError as error:
            raise ImportError(_how_to_install("mlflow")) from error

        self._metric = Metric
        place = workdir.absolute()
        location: str | None = None
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            uri, location = f"sqlite:///{place}/mlflow.db", f"{place.as_uri()}/mlartifacts"
        self._client = mlflow.MlflowClient(uri)
        if run_id is not None:
            self._client.update_run(run_id, status="RUNNING")
            self._run_id = run_id
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = (
            self._client.create_experiment(name, artifact_location=location)
            if experiment is None
            else experiment.experiment_id
        )
        self._run_id = self._client.create_run(experiment_id, run_name=place.name).info.run_id
        params = [Param(key, str(value)) for key, value in config.items()]
        for start in range(0, len(params), 100):  # Largest number per call.
            self._client.log_batch(self._run_id, params=params[start : start + 100])

    @property
    def run_id(self) -> str:
        return self._run_id

    def send_scalars(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def send_picture(self, step: int, name: str, file: pathlib.Path) -> None:
        self._client.log_artifact(self._run_id, str(file), "pictures")

    def send_file(self, file: pathlib.Path) -> None:
        folder = file.parent.relative_to(self._workdir)
        self._client.log_artifact(self._run_id, str(file), folder.as_posix().strip("."))

    def end(self, is_complete: bool) -> None:
        self._client.set_terminated(self._run_id, "FINISHED" if is_complete else "FAILED")


def _how_to_install(name: str) -> str:
    return f"{name} is not installed: pip install 'pixpro-keras[{name}]'"


@contextlib.contextmanager
def track_run(
    name: str, workdir: str | os.PathLike, config: Mapping[str, Any]
) -> Iterator[Tracker]:
    """Context that starts a run in a tracker, or continues that of the directory, and ends it.

    Servers, accounts, projects and offline modes are set by the tracker's own environment variables
    (`WANDB_MODE`, `WANDB_PROJECT`, `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`, ...).

    Args:
        name: one of `TRACKERS`.
        workdir: the run's directory, which must exist.
        config: settings by name.

    Yields:
        The tracker, whose `log` is one of the `sinks` of `run_training`.

    Raises:
        ImportError: naming the extra to install.
        ValueError: if the name is unknown, or the tracker does not start, for example because its server
            does not answer.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training import track_run

        with track_run("mlflow", tempfile.mkdtemp(), {"batch_size": 4}) as tracker:
            tracker.log(10, {"train/loss": 0.5})
        ```
    """
    checks.one_of("name", name, TRACKERS)
    cls = {"wandb": _Wandb, "mlflow": _MLflow}[name]
    workdir = pathlib.Path(workdir)
    file = workdir / _IDS_FILE
    ids = json.loads(file.read_text()) if file.exists() else {}
    try:
        tracker = cls(workdir, ids.get(name), config)
    except ImportError:
        raise
    except Exception as error:  # Clients raise different errors.
        raise ValueError(f"{name} did not start: {first_line(error)}") from error
    write_atomically(file, json.dumps(ids | {name: tracker.run_id}).encode())
    is_complete = False
    try:
        yield tracker
        is_complete = not tracker.is_stopped
    finally:
        tracker.finish(is_complete)
