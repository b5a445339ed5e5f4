"""Memory, open files and threads of a long pre-training.

python benchmarks/soak.py --minutes=10

Runs a tiny pre-training in a process of its own, with frequent checkpoints and pictures, and ends it with
SIGTERM, as a scheduler does. Memory that still grows in the second half is a leak.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_float("minutes", 10.0, "Duration in minutes.", 0.1)
flags.DEFINE_integer("rows", 10, "Rows of the table.", 2)
flags.DEFINE_list(
    "flags",
    [
        "--dataset=scenes",
        "--backbone=resnet18_v1_5",
        "--projector_hidden_dim=32",
        "--projector_dim=16",
        "--image_size=32",
        "--batch_size=8",
        "--checkpoint_every_steps=50",
        "--picture_every_steps=100",
    ],
    "Flags of experiments/pretrain.py.",
)
_JOB = pathlib.Path(__file__).resolve().parents[1] / "experiments" / "pretrain.py"


def look(pid: int, workdir: pathlib.Path) -> dict[str, float]:
    """Log lines, memory in MiB, open files, threads and size of the workdir in MiB."""
    process = pathlib.Path("/proc") / str(pid)
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    metrics = workdir / "metrics.jsonl"
    lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    files = [file for file in workdir.rglob("*") if file.is_file()]
    return {
        "lines": lines,
        "memory": int(status["VmRSS"].split()[0]) / 1024,
        "handles": len(os.listdir(process / "fd")),
        "threads": int(status["Threads"]),
        "disk": sum(file.stat().st_size for file in files) / 2**20,
    }


def main(argv: list[str]) -> None:
    """Runs a pre-training, samples it and prints a Markdown table."""
    del argv
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder)
        command = [sys.executable, _JOB, *FLAGS.flags, "--epochs=1000000", f"--workdir={workdir}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started = time.monotonic()
        print("| minute | lines of the log | memory, MiB | open files | threads | workdir, MiB |")
        print("|---|---|---|---|---|---|", flush=True)
        rows = []
        for row in range(1, FLAGS.rows + 1):
            minute = FLAGS.minutes * row / FLAGS.rows
            time.sleep(max(started + 60 * minute - time.monotonic(), 0))
            if process.poll() is not None:
                sys.exit(f"the run ended early with exit code {process.returncode}")
            seen = look(process.pid, workdir)
            rows.append((minute, seen["memory"]))
            cells = (f"{minute:.1f}", *(f"{value:.0f}" for value in seen.values()))
            print(f"| {' | '.join(cells)} |", flush=True)
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=300)
        minutes, memory = np.array(rows[FLAGS.rows // 2 :]).T
        slope = np.polyfit(minutes, memory, 1)[0] if len(minutes) > 1 else float("nan")
        print(
            f"\nMemory in the second half: {slope:+.1f} MiB per minute. Exit code after SIGTERM: {code}."
        )


if __name__ == "__main__":
    app.run(main)
