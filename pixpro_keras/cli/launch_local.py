"""Starts a job as several workers on this machine, to try a multi-worker run without a cluster.

    pixpro-launch-local --workers=2 -- pretrain --batch_size=64 ...

What follows `--` is a script, or a command of this package by its name (`pretrain`, `pixpro-pretrain`), with
its flags. Each worker gets a `TF_CONFIG` with free local ports, and its number before its output. If a worker
fails, the others are stopped, and its exit code becomes the launcher's; Ctrl-C and SIGTERM reach every worker
once.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import BinaryIO

from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.shared import command

_POLL_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaunchOptions(Options):
    """Options of the launcher."""

    workers: int = option(2, "Number of processes.", minimum=1)
    grace_seconds: float = option(
        20.0,
        "Seconds that the other workers have to exit after one has failed; then they are killed.",
        minimum=0.0,
    )


def run(options: LaunchOptions, job: Sequence[str]) -> int:
    """Runs the workers and returns the exit code of the first that failed, else 0.

    Args:
        options: number of workers.
        job: a script, here or the name of a command of this package, and its flags.

    Raises:
        FlagError: if there is no such script.
    """
    if not job:
        raise FlagError("the command to start is missing: pixpro-launch-local -- COMMAND FLAGS")
    script, *job_flags = job
    words = [*find_script(script), *job_flags]
    return Launcher(words, options.workers, options.grace_seconds).run()


def find_script(name: str) -> list[str]:
    """Arguments of `python` that run a script by its path, or a command of this package by its name.

    Args:
        name: `mine.py`, `pretrain`, `pretrain.py`, `pixpro-pretrain`.

    Raises:
        FlagError: if there is neither.
    """
    if pathlib.Path(name).is_file():
        return [name]
    module = pathlib.Path(name).stem.removeprefix("pixpro-").replace("-", "_")
    if not pathlib.Path(__file__).with_name(f"{module}.py").is_file():
        raise FlagError(f"{name} is not a file")
    return command.program_of(module)


class Launcher:
    """Group of processes that start and end together.

    Args:
        words: script and flags of each process.
        num_workers: number of processes.
        grace_seconds: time to end after the first failure.
    """

    def __init__(self, words: Sequence[str], num_workers: int, grace_seconds: float):
        self._words = list(words)
        self._num_workers = num_workers
        self._grace_seconds = grace_seconds
        self._processes: list[subprocess.Popen] = []

    def run(self) -> int:
        """Starts all processes and waits for them. Returns the exit code of the first that failed, else 0."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)
        addresses = [f"localhost:{port}" for port in free_ports(self._num_workers)]
        printers = []
        try:
            for index in range(self._num_workers):
                process = self._start(index, addresses)
                self._processes.append(process)
                printer = threading.Thread(target=_print_lines, args=(index, process.stdout))
                printer.start()
                printers.append(printer)
            return self._wait()
        finally:
            self._send(signal.SIGKILL)
            for printer in printers:
                printer.join()

    def _start(self, index: int, addresses: Sequence[str]) -> subprocess.Popen:
        config = {
            "cluster": {"worker": list(addresses)},
            "task": {"type": "worker", "index": index},
        }
        return subprocess.Popen(
            [sys.executable, "-u", *self._words],
            env=os.environ | {"TF_CONFIG": json.dumps(config)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Otherwise Ctrl-C in a terminal would reach a worker twice, which stops it immediately.
            start_new_session=True,
        )

    def _wait(self) -> int:
        exit_code, deadline = 0, None
        while any(process.poll() is None for process in self._processes):
            failed = [index for index, p in enumerate(self._processes) if p.poll()]
            if failed and deadline is None:
                exit_code = _exit_code(self._processes[failed[0]])
                _say(f"worker {failed[0]} ended with exit code {exit_code}; ending the others")
                self._send(signal.SIGTERM)
                deadline = time.monotonic() + self._grace_seconds
            if deadline is not None and time.monotonic() > deadline:
                self._send(signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        return exit_code or max(_exit_code(process) for process in self._processes)

    def _pass_on(self, number, frame):
        self._send(signal.Signals(number))

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)


def free_ports(count: int) -> list[int]:
    """Free ports of this machine."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):  # All are open at the same time, so that the ports differ.
            listener = stack.enter_context(socket.socket())
            listener.bind(("localhost", 0))
            ports.append(listener.getsockname()[1])
        return ports


def _exit_code(process: subprocess.Popen) -> int:
    """Exit code as in a shell: 128 plus the number of the signal that ended the process."""
    code = process.returncode
    return code if code >= 0 else 128 - code


def _print_lines(index: int, stream: BinaryIO) -> None:
    for line in stream:
        # A progress bar overwrites its line; only the newest state is printed.
        text = line.decode(errors="replace").rstrip("\r\n").rsplit("\r", 1)[-1]
        # A single write with the end of line, since other workers print at the same time.
        sys.stdout.write(f"[{index}] {text}\n")
        sys.stdout.flush()


def _say(message: str) -> None:
    print(f"launch_local: {message}", file=sys.stderr, flush=True)


def main() -> None:
    """Runs the command."""
    command.run(LaunchOptions, run, __doc__ or "", takes_rest=True)
