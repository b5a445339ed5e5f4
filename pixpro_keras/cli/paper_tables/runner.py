"""Runs jobs one after the other, each as a process with its own log."""

import contextlib
import datetime
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from pixpro_keras.cli.paper_tables.job_records import (
    LOG,
    Record,
    is_finished,
    pretrained,
    read_record,
    resolved_flags,
)
from pixpro_keras.cli.paper_tables.jobs import ROOT, Job, Places

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Runner:
    """Runs unfinished jobs and passes signals to the running job.

    Args:
        places: folders of this machine.
        commit: commit of the code.
        on_job_end: function called after every job, to write the results so far.
    """

    def __init__(self, places: Places, commit: str, on_job_end: Callable[[], object]):
        self._places = places
        self._commit = commit
        self._on_job_end = on_job_end
        self._process: subprocess.Popen | None = None
        self._received: signal.Signals | None = None
        self._begin = time.monotonic()

    def run(self, jobs: Sequence[Job]) -> int:
        """Runs jobs whose pre-training comes before them.

        Returns:
            0; 1 if a job failed; 130 or 143 if a signal ended it, as a job would.
        """
        before = {number: signal.signal(number, self._pass_on) for number in _SIGNALS}
        try:
            failed = self._run_all(jobs)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._received is not None:
            print(f"Stopped by {self._received.name}. The same command continues.", flush=True)
            return 128 + (signal.SIGINT if self._received == signal.SIGINT else signal.SIGTERM)
        if failed:
            print(f"error: {len(failed)} of {len(jobs)} jobs failed:", file=sys.stderr)
            for line in failed:
                print(f"  {line}", file=sys.stderr)
        return 1 if failed else 0

    def _run_all(self, jobs: Sequence[Job]) -> list[str]:
        failed: list[str] = []
        self._begin = time.monotonic()
        done = [job for job in jobs if is_finished(job, self._places)]
        if done:
            print(f"{len(done)} of {len(jobs)} jobs are finished already", flush=True)
        for number, job in enumerate(jobs, 1):
            if self._received is not None:
                break
            if job in done:
                continue
            if job.after is not None and not is_finished(job.after, self._places):
                failed.append(f"{job.name}: its pre-training is not finished")
                continue
            log = self._places.folder(job) / LOG
            self._say(number, jobs, f"{job.name} started; log: {log}")
            code, seconds = self._run(job)
            if code == 0:
                self._say(number, jobs, f"{job.name} done in {seconds:.0f} s")
            elif self._received is None:
                self._say(number, jobs, f"{job.name} FAILED with exit code {code}: {_end_of(log)}")
                failed.append(f"{job.name}: exit code {code}, log: {log}")
            self._on_job_end()
        return failed

    def _run(self, job: Job) -> tuple[int, float]:
        folder = self._places.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        earlier = read_record(folder)
        record = Record(resolved_flags(job), self._commit)
        record.pretrained = pretrained(job, self._places)
        before = earlier.seconds if earlier is not None else 0.0
        record.seconds = before
        record.write(folder)
        command = self._places.command(job)
        begin = time.monotonic()
        with open(folder / LOG, "a") as log:
            log.write(f"$ {shlex.join(command)}\n")
            log.flush()
            self._process = subprocess.Popen(
                [command[0], "-u", *command[1:]],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Otherwise Ctrl-C in a terminal would reach the job twice, which stops it immediately.
                start_new_session=True,
            )
            if self._received is not None:  # between two jobs
                self._send(self._received)
            code = self._process.wait()
        seconds = time.monotonic() - begin
        record.seconds = before + seconds
        record.exit_code = code if code >= 0 else 128 - code
        if code == 0 and not (folder / job.result).is_file():
            record.exit_code = 1
            with open(folder / LOG, "a") as log:
                log.write(f"error: ended without {job.result}\n")
        if record.exit_code == 0:
            record.finished = datetime.datetime.now(datetime.UTC).isoformat()
        record.write(folder)
        return record.exit_code, seconds

    def _pass_on(self, number, frame):
        self._received = signal.Signals(number)
        self._send(self._received)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _say(self, number: int, jobs: Sequence[Job], message: str) -> None:
        passed = datetime.timedelta(seconds=round(time.monotonic() - self._begin))
        print(f"[{number}/{len(jobs)} {passed}] {message}", flush=True)


def commit_of_code() -> str:
    """Commit that is checked out, with `+` if files differ from it; empty without git."""
    if not (ROOT / ".git").exists():  # An installed package may lie in another repository.
        return ""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def _end_of(log: os.PathLike) -> str:
    """Error in a log, or its last line if there is none."""
    with open(log, errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [""])[-1][-300:]
