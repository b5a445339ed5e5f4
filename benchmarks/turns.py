"""Processes that run alternately, so that several programs are measured under the same conditions."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

_HERE = pathlib.Path(__file__).parent


class Worker:
    """A process that runs steps on request and is stopped by a signal otherwise."""

    def __init__(self, script: str, arguments: list[str]):
        command = [sys.executable, str(_HERE / script), *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, command: str) -> dict:
        """Sends a command and returns the answer, with the `cpu_seconds` of the process added."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.send_signal(signal.SIGCONT)
        before = self._cpu_seconds()
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with exit code {self._process.wait()}")
        answer = json.loads(line) | {"cpu_seconds": self._cpu_seconds() - before}
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def _cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mib(self) -> float:
        """Peak resident memory in MiB."""
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


def take_turns(
    workers: dict[str, Worker], steps: int, num_rounds: int, disturbance: float
) -> list[dict[str, float]]:
    """Times the workers alternately.

    Args:
        workers: processes by name, after their warm-up.
        steps: steps of each worker per round.
        num_rounds: number of rounds.
        disturbance: largest share of the CPU that other processes may use in a round, in [0, 1].

    Returns:
        Seconds per step of each worker, for each round.

    Raises:
        SystemExit: if more than three times `num_rounds` rounds exceed `disturbance`.
    """
    rounds: list[dict[str, float]] = []
    dropped = 0
    while len(rounds) < num_rounds:
        before, started = machine_cpu_seconds(), time.perf_counter()
        answers = {name: worker.ask(f"steps {steps}") for name, worker in workers.items()}
        seconds = time.perf_counter() - started
        others = machine_cpu_seconds() - before
        others -= sum(answer["cpu_seconds"] for answer in answers.values())
        share = max(others, 0.0) / (seconds * (os.cpu_count() or 1))
        if share <= disturbance:
            rounds.append({name: answer["seconds"] / steps for name, answer in answers.items()})
            continue
        dropped += 1
        print(f"round repeated: other processes used {share:.0%} of the CPU", flush=True)
        if dropped > 3 * num_rounds:
            raise SystemExit("Other processes use too much of the CPU to measure.")
    return rounds


def has_bfloat16() -> bool:
    """Returns True if the processor has bfloat16 instructions."""
    flags_of_cpu = pathlib.Path("/proc/cpuinfo").read_text()
    return "avx512_bf16" in flags_of_cpu or "amx_bf16" in flags_of_cpu


def processor() -> str:
    """Name of the processor and number of its cores."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"
