"""Interrupts jobs by signals at random times, on one core, and measures the time until they end."""

import os
import pathlib
import random
import signal
import time

from tests.helpers.jobs import ROOT, StartedJob

_SECONDS = 120
# A bar; in short jobs, which have none, the last line before it.
_AT_WORK = {"knn": b"Backbone:"}
_BAR = b" images/s"


def break_off(script, flags, signals, seed=0, cwd=ROOT):
    """Interrupts a command once with each signal, alternately while it starts and while it works.

    Yields:
        For each signal: exit code, that of SIGKILL where it had not ended two minutes later; seconds of
        the processor from its last line to its end, which others on a busy machine do not lengthen, and
        in all; what it wrote.
    """
    chance = random.Random(f"{script} {seed}")
    for index, number in enumerate(signals):
        job = StartedJob(script, *flags, cwd=cwd, is_whole=True)
        mark = _AT_WORK.get(script, _BAR) if index % 2 else b""
        yield _break_off(job, number, chance.uniform(0, 1.5), mark)


def _break_off(job, number, moment, mark):
    in_work = bool(mark)
    start = begin = time.monotonic()
    size, before, is_sent = 0, 0.0, False
    while job.is_running():
        time.sleep(0.01)
        now = time.monotonic()
        text = _written(job.pid)
        if len(text) > size:
            size, before = len(text), _cpu_seconds(job.pid)
            if in_work and mark in text:
                begin, in_work = now, False
        if not (in_work or is_sent) and now - begin > moment:
            job.send_signal(number)
            is_sent = True
        if now - start > _SECONDS:
            job.send_signal(signal.SIGKILL)
    used = _cpu_seconds(job.pid)
    result = job.wait()
    return result.returncode, used - before, used, result.stdout + result.stderr


def _written(pid):
    parts = []
    for handle in (1, 2):
        try:
            parts.append(pathlib.Path(f"/proc/{pid}/fd/{handle}").read_bytes())
        except OSError:  # it has ended meanwhile
            return b""
    return b"".join(parts)


def _cpu_seconds(pid):
    """CPU seconds of a process that is running, or has ended without being waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
