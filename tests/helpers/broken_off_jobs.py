"""Jobs that a signal breaks off at a random moment, on one core, and the time until they have ended."""

import os
import pathlib
import random
import signal
import time

from tests.helpers.jobs import ROOT, StartedJob

_SECONDS = 120


def break_off(script, flags, signals, seed=0, cwd=ROOT):
    """Breaks a command off, once with each signal.

    Yields:
        For each signal: exit code, that of SIGKILL where it had not ended two minutes later; seconds of
        the processor from its last line to its end, which others on a busy machine do not lengthen; all
        that it wrote.
    """
    for index, number in enumerate(signals):
        yield _break_off(StartedJob(script, *flags, cwd=cwd, is_whole=True), number, seed + index)


def _break_off(job, number, seed):
    # Mostly while it trains or computes, else while it starts.
    chance = random.Random(seed)
    moment, in_work = chance.uniform(0, 3), chance.random() < 0.8
    start = begin = time.monotonic()
    size, before, is_sent = 0, 0.0, False
    while job.is_running():
        time.sleep(0.01)
        now = time.monotonic()
        text = _written(job.pid)
        if len(text) > size:
            size, before = len(text), _cpu_seconds(job.pid)
            if in_work and b" images/s" in text:  # a bar
                begin, moment, in_work = now, moment / 2, False
        if not (in_work or is_sent) and now - begin > moment:
            job.send_signal(number)
            is_sent = True
        if now - start > _SECONDS:
            job.send_signal(signal.SIGKILL)
    used = _cpu_seconds(job.pid)
    result = job.wait()
    return result.returncode, used - before, result.stdout + result.stderr


def _written(pid):
    parts = []
    for handle in (1, 2):
        try:
            parts.append(pathlib.Path(f"/proc/{pid}/fd/{handle}").read_bytes())
        except OSError:  # it has ended meanwhile
            return b""
    return b"".join(parts)


def _cpu_seconds(pid):
    """Of a process that runs or has ended, and that nobody has waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
