"""Jobs that a signal breaks off at a random moment, on one core, and the time until they have ended."""

import json
import os
import subprocess
import sys
import tempfile

from tests.helpers.jobs import ROOT

# Imports TensorFlow once and runs each command in a fork, which ends as a process of its own does: with
# the end of the interpreter.
_SERVER = """
import importlib, json, os, random, signal, sys, tempfile, time

import keras, sklearn.linear_model, tensorflow, tensorflow_datasets

from tests.helpers import tiny_networks

tiny_networks.register_resnet10()
SECONDS = 120

def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

for request in sys.stdin:
    script, argv, number, seed = json.loads(request)
    chance = random.Random(seed)
    out = tempfile.TemporaryFile()
    pid = os.fork()
    if pid == 0:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        sys.argv = [script, *argv]
        importlib.import_module(f"pixpro_keras.cli.{script}").main()
    # Mostly while it trains or computes, else while it starts.
    begin = time.monotonic()
    moment = chance.uniform(0, 3)
    in_work = chance.random() < 0.8
    size, last, sent, code, before, used = 0, begin, None, None, 0, 0
    while code is None and time.monotonic() - begin < SECONDS:
        time.sleep(0.01)
        if os.fstat(out.fileno()).st_size != size:
            size, last = os.fstat(out.fileno()).st_size, time.monotonic()
            before = cpu_seconds(pid)
            if in_work and sent is None:
                out.seek(0)
                if b" images/s" in out.read():  # a bar
                    begin, moment, in_work = last, moment / 2, False
        if not in_work and sent is None and time.monotonic() - begin > moment:
            os.kill(pid, number)
            sent = time.monotonic()
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            used = usage.ru_utime + usage.ru_stime
    if code is None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    out.seek(0)
    print(json.dumps([code, used - before, out.read().decode(errors="replace")]), flush=True)
"""


def break_off(script, flags, signals, seed=0):
    """Breaks a command off, once with each signal.

    Returns:
        For each signal: exit code, or None where it had not ended two minutes later; seconds of the
        processor from its last line to its end, which others on a busy machine do not lengthen; all
        that it wrote.
    """
    requests = [
        json.dumps([script, [str(flag) for flag in flags], int(number), seed + index])
        for index, number in enumerate(signals)
    ]
    with tempfile.TemporaryDirectory() as folder:
        answers = subprocess.run(
            [sys.executable, "-c", _SERVER],
            input="\n".join(requests) + "\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        ).stdout
    return [json.loads(line) for line in answers.splitlines()]
