"""Directory of a run: locked while the run lasts, and as before after a failed start."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from pixpro_keras.training.devices import DEVICES_FILE
from pixpro_keras.training.history import HISTORY_FILE
from pixpro_keras.training.workers import is_chief

LOCK_FILE = "run.lock"
# Files that a run writes before its first step, beside TensorBoard's.
_START_FILES = frozenset(
    [
        *("flags.cfg", "loss_bounds.json", DEVICES_FILE, HISTORY_FILE),
        *("pictures/correspondences.png", "pictures/similarity_0000000.png"),
    ]
)
# File that a run of a model in memory needs before it starts, which its writer removes.
INITIAL_FILE = "initial_backbone.keras"
_BEAT_SECONDS = 10.0


class WorkdirInUseError(ValueError):
    """Raised if another run uses the directory."""


class RunLock:
    """Lock of a run's directory. It ends with its process, even if that is killed.

    The operating system locks the file `run.lock` (`flock`). Some network disks do not support this, or
    not between hosts, so the file also holds host, process and a count that goes up every ten seconds.
    Where the system's lock is not reliable, the count is watched for 25 seconds: if it does not
    change, the process is dead.

    Args:
        workdir: the directory, which must exist.

    Example:
        ```python
        import tempfile

        from pixpro_keras.training.workdir import RunLock, WorkdirInUseError

        workdir = tempfile.mkdtemp()
        lock = RunLock(workdir)
        lock.acquire()
        try:
            RunLock(workdir).acquire()
        except WorkdirInUseError as error:
            print(error)  # a run is going on there: process ... on ..., since ...
        lock.release()
        ```
    """

    def __init__(self, workdir: str | os.PathLike):
        self._file = pathlib.Path(workdir) / LOCK_FILE
        self._handle = -1
        self._holder = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._is_released = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="run.lock", daemon=True)

    def acquire(self) -> None:
        """Takes the lock.

        Raises:
            WorkdirInUseError: if another run holds it.
            OSError: if the file cannot be made.
        """
        while not self._try():
            pass
        self._write(0)
        self._heart.start()

    def release(self) -> None:
        """Releases the lock and removes its file."""
        self._is_released.set()
        self._heart.join()
        # If the file was deleted, another run may have created a new one.
        if self._is_current():
            self._file.unlink(missing_ok=True)
        os.close(self._handle)

    def _try(self) -> bool:
        """Tries to take the lock. Returns False if its file was replaced meanwhile."""
        self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            is_certain = _lock(self._handle)
            holder = _parse(os.pread(self._handle, 4096, 0))
            # The system's lock is reliable between processes of one host.
            is_local = is_certain and holder.get("host") == self._holder["host"]
            if holder and not is_local:
                self._watch(holder)
            if self._is_current():
                return True
        except BaseException as error:
            holder = _parse(os.pread(self._handle, 4096, 0))
            os.close(self._handle)
            if isinstance(error, BlockingIOError):
                raise _in_use(holder) from None
            raise
        os.close(self._handle)
        return False

    def _watch(self, holder: dict) -> None:
        """Watches the lock file for the heartbeat of another process.

        Raises:
            WorkdirInUseError: if a heartbeat is seen.
        """
        seconds = 2.5 * _BEAT_SECONDS
        logging.warning(
            "%s names process %s on %s: waiting %g seconds for its heartbeat.",
            self._file,
            holder.get("process"),
            holder.get("host"),
            seconds,
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(_BEAT_SECONDS / 10)
            try:  # Opened again, so that network disks refresh it.
                now = _parse(self._file.read_bytes())
            except FileNotFoundError:
                return
            if now and now != holder:
                raise _in_use(now)

    def _is_current(self) -> bool:
        """Returns True if the open file is still the one at the path of the lock."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self._file))
        except FileNotFoundError:
            return False

    def _beat(self) -> None:
        count = 0
        while not self._is_released.wait(_BEAT_SECONDS):
            count += 1
            self._write(count)

    def _write(self, count: int) -> None:
        text = json.dumps(self._holder | {"count": count}) + "\n"
        with contextlib.suppress(OSError):  # On a full disk, for example; the lock stays as it is.
            os.pwrite(self._handle, text.encode(), 0)
            os.ftruncate(self._handle, len(text))
            os.fsync(self._handle)


@contextlib.contextmanager
def open_workdir(
    path: str | os.PathLike, strategy: tf.distribute.Strategy | None = None
) -> Iterator[pathlib.Path]:
    """Context that creates a run's directory and locks it against other runs.

    If an error ends the block before the first step has left files, such as a checkpoint or a line of the
    log, a directory that was missing or empty is left as it was.

    Args:
        path: the directory; created when missing, with its parents.
        strategy: strategy of the run, of which only the chief takes the lock; default: the current one.

    Yields:
        The directory.

    Raises:
        WorkdirInUseError: if another run is going on there.
        OSError: if it cannot be written.

    Example:
        ```python
        from pixpro_keras.training import open_workdir

        with open_workdir("runs/mine") as workdir:
            pass  # `open_checkpoints`, `run_training`, and what is made of the result
        ```
    """
    workdir = pathlib.Path(path).expanduser()
    is_writer = is_chief(strategy or tf.distribute.get_strategy())
    created = [one for one in (workdir, *workdir.parents) if not one.exists()]
    was_empty = bool(created) or (workdir.is_dir() and not any(_others(workdir)))
    try:
        with contextlib.ExitStack() as stack:
            workdir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=workdir):
                pass
            if is_writer:
                lock = RunLock(workdir)
                lock.acquire()
                stack.callback(lock.release)
            yield workdir
    except BaseException:
        with contextlib.suppress(OSError):
            if is_writer and was_empty and _has_only_start_files(workdir):
                for path in _others(workdir):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            for one in created:
                one.rmdir()  # Fails if the folder is not empty.
        raise


def _others(workdir: pathlib.Path) -> Iterator[pathlib.Path]:
    """Paths in a directory besides `INITIAL_FILE`."""
    return (path for path in workdir.iterdir() if path.name != INITIAL_FILE)


def _has_only_start_files(workdir: pathlib.Path) -> bool:
    files = (path for one in _others(workdir) for path in (one, *one.rglob("*")))
    files = (path for path in files if not path.is_dir())
    return all(
        file.name.startswith("events.out.tfevents.")
        or file.relative_to(workdir).as_posix() in _START_FILES
        for file in files
    )


def _lock(handle: int) -> bool:
    """Locks a file by the operating system. Returns False if the disk does not support it.

    Raises:
        BlockingIOError: if another process has it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _parse(content: bytes) -> dict:
    """Parses the content of a lock file; an empty dict if it is empty or incomplete."""
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError):
        return {}


def _in_use(holder: dict) -> WorkdirInUseError:
    names = [
        f"process {holder.get('process')} on {holder.get('host')}",
        f"since {holder.get('since')}",
    ]
    return WorkdirInUseError(
        "a run is going on there" + (f": {', '.join(names)}" if holder else "")
    )
