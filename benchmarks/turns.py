"""Processes that take turns, so that two programs are measured under the same conditions."""

import json
import os
import pathlib
import signal
import subprocess
import sys

_HERE = pathlib.Path(__file__).parent


class Worker:
    """A process that steps when asked and is stopped otherwise."""

    def __init__(self, script: str, arguments: list[str]):
        command = [sys.executable, str(_HERE / script), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command: str) -> dict:
        """The answer, with `cpu_seconds` of this process added."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        before = self._cpu_seconds()
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with code {self._process.wait()}")
        answer = json.loads(line) | {"cpu_seconds": self._cpu_seconds() - before}
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def _cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        """Most memory that was resident."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10

    def close(self) -> None:
        """Ends the process."""
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait()


def machine_cpu_seconds() -> float:
    """CPU seconds of all processes since the machine started."""
    user, nice, system = pathlib.Path("/proc/stat").read_text().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")
