"""Suppression of TensorFlow's notices about itself on the terminal; all other output stays.

Its C++ part writes them to file descriptor 2 before its log level takes effect. A small process filters
them out; as a process of its own, it also passes on the last lines before a crash.
"""

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import BinaryIO

_SUBJECTS = (
    rb"oneDNN custom operations|cuda drivers on your machine|cuInit|cudart|Unable to register cu\w+ factory"
    rb"|computation_placer|TF-TRT Warning"
)
# Each begins with the severity, date and place of absl's log.
_NOTICES = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called"
    rb"|[IWE]\d{4} .*(" + _SUBJECTS + rb")"
    rb"|\d{4}-\d\d-\d\d .*: [IWE] .*(" + _SUBJECTS + rb"|cpu_feature_guard)"
    rb"|To enable the following instructions: .*rebuild TensorFlow"
)
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def is_notice(line: bytes) -> bool:
    """True if a line on the terminal is one of TensorFlow's notices about itself."""
    return _NOTICES.match(line) is not None


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """Context in which file descriptor 2 passes everything but notices.

    With `TF_CPP_MIN_LOG_LEVEL` 0 or 1, which asks for them, they stay.
    """
    if os.environ.get(_LEVEL, "3") in ("0", "1"):
        yield
        return
    try:
        before = os.dup(2)
    except OSError:  # closed
        yield
        return
    try:
        command = [sys.executable, "-I", "-S", __file__]
        # Signals are ignored, since Ctrl-C reaches this process too and the rest must still be written.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    except OSError:  # No process can be started; show the notices.
        os.close(before)
        yield
        return
    assert process.stdin is not None
    try:
        sys.stderr.flush()
        os.dup2(process.stdin.fileno(), 2)
        process.stdin.close()
        yield
    finally:
        sys.stderr.flush()
        os.dup2(before, 2)  # Closes the last end of the pipe, which ends the process.
        os.close(before)
        with contextlib.suppress(subprocess.TimeoutExpired):  # A daemon inherited the pipe.
            process.wait(timeout=5)


class _QuietLoader(importlib.abc.Loader):
    """Module loader that suppresses notices while the module is executed."""

    def __init__(self, loader: importlib.abc.Loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        with without_notices():
            self._loader.exec_module(module)


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Import finder that wraps the loader of TensorFlow once."""

    def find_spec(self, fullname, path, target=None) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


def import_without_notices() -> None:
    """Makes the first import of TensorFlow suppress its notices."""
    if "tensorflow" not in sys.modules:
        sys.meta_path.insert(0, _QuietFinder())


def pass_on(source: BinaryIO, target: BinaryIO) -> None:
    """Copies lines that are not notices, one at a time."""
    while line := source.readline():
        if not is_notice(line):
            target.write(line)
            target.flush()


if __name__ == "__main__":
    pass_on(sys.stdin.buffer, sys.stderr.buffer)
