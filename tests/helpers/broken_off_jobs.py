"""Jobs that a signal breaks off at a random moment, on one core, and the time until they have ended."""

import os
import pathlib
import random
import signal
import time

from tests.helpers.jobs import ROOT, StartedJob

_SECONDS = 120
# A bar, or the last line before what a short job does.
_AT_WORK = (b" images/s", b"Backbone:")


def break_off(script, flags, signals, seed=0, cwd=ROOT):
    """Breaks a command off, once with each signal: in turn while it starts and while it works.

    Yields:
        For each signal: exit code, that of SIGKILL where it had not ended two minutes later; seconds of
        the processor from its last line to its end, which others on a busy machine do not lengthen, and
        in all; what it wrote.
    """
    chance = random.Random(f"{script} {seed}")
    for index, number in enumerate(signals):
        job = StartedJob(script, *flags, cwd=cwd, is_whole=True)
        yield _break_off(job, number, chance.uniform(0, 1.5), in_work=index % 2 == 1)


def _break_off(job, number, moment, in_work):
    start = begin = time.monotonic()
    size, before, is_sent = 0, 0.0, False
    while job.is_running():
        time.sleep(0.01)
        now = time.monotonic()
        text = _written(job.pid)
        if len(text) > size:
            size, before = len(text), _cpu_seconds(job.pid)
            if in_work and any(mark in text for mark in _AT_WORK):
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
    """Of a process that runs or has ended, and that nobody has waited for."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
