"""Time and memory of a PixPro training step, compared with PyTorch.

python benchmarks/step_ratio.py --backbone=resnet50_v1_5 --image_size=224 --batch_size=8

Each side runs in a process of its own, with the same weights and the same batch. After a warm-up, the first
losses are compared, and the script stops if they differ. Then the processes are timed alternately; the one
that waits is stopped by a signal. A round is repeated if other processes used more than `--disturbance` of
the CPU. Needs torch, except with an empty `--peers=`, which measures our step alone.
"""

import os
import statistics
import tempfile

from absl import app, flags
from turns import Worker, has_bfloat16, take_turns

FLAGS = flags.FLAGS
flags.DEFINE_string("backbone", "resnet50_v1_5", "resnet18_v1_5 or resnet50_v1_5.")
flags.DEFINE_integer("image_size", 224, "Side of the views in pixels.", 32)
flags.DEFINE_integer("batch_size", 8, "Images per step.", 2)
flags.DEFINE_integer("hidden_dim", 4096, "Hidden channels of the projector.", 1)
flags.DEFINE_enum(
    "precision",
    None,
    ["float32", "bfloat16"],
    "Precision of our step and of PyTorch's `best` variant. Default: bfloat16 if the processor has it.",
)
flags.DEFINE_list(
    "peers",
    ["published", "best"],
    "PyTorch variants (see step_torch.py), or mirrored: our step under MirroredStrategy on one device.",
)
flags.DEFINE_integer("rounds", 7, "Number of rounds; medians are printed.", 1)
flags.DEFINE_integer("steps", 2, "Steps of each side per round.", 1)
flags.DEFINE_integer(
    "warm_up", 3, "Untimed steps: the first compiles, the second still allocates memory.", 1
)
flags.DEFINE_float("disturbance", 0.05, "Largest CPU share of other processes in a round.", 0, 1)
# Largest relative difference of the first losses. bfloat16 has 8 significant bits and there are many layers.
_PARITY = {"float32": 1e-4, "bfloat16": 2e-2}


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    precision = FLAGS.precision or ("bfloat16" if has_bfloat16() else "float32")
    scratch = tempfile.TemporaryDirectory()
    shared = [
        f"--{name}={FLAGS[name].value}"
        for name in ("backbone", "image_size", "batch_size", "hidden_dim")
    ]
    shared.append(f"--weights={scratch.name}/weights.npz")
    workers: dict[str, Worker] = {}
    try:
        workers["ours"] = Worker("step_keras.py", [*shared, f"--precision={precision}"])
        losses = {"ours": workers["ours"].ask(f"steps {FLAGS.warm_up}")["losses"]}
        for variant in FLAGS.peers:
            name, script, arguments = (
                f"PyTorch, {variant}",
                "step_torch.py",
                [f"--variant={variant}"],
            )
            if variant == "mirrored":
                name, script, arguments = "ours, mirrored", "step_keras.py", ["--strategy=mirrored"]
            own = "float32" if variant == "published" else precision
            workers[name] = worker = Worker(script, [*shared, f"--precision={own}", *arguments])
            losses[name] = worker.ask(f"steps {FLAGS.warm_up}")["losses"]
        check_parity(losses, precision)
        peak = {name: worker.ask("gflops")["gflops"] for name, worker in workers.items()}
        rounds = take_turns(workers, FLAGS.steps, FLAGS.rounds, FLAGS.disturbance)
        memory = {name: worker.peak_mib() for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
        scratch.cleanup()
    report(precision, rounds, memory, losses, peak)


def check_parity(losses: dict[str, list[float]], precision: str) -> None:
    """Raises `SystemExit` if the first losses differ by more than `_PARITY`."""
    ours, *theirs = (values[0] for values in losses.values())
    for value in theirs:
        if abs(ours - value) > _PARITY[precision] * abs(value):
            raise SystemExit(f"The first losses differ, so nothing was timed: {losses}")


def report(precision, rounds, memory, losses, peak) -> None:
    """Prints a Markdown table of medians and ratios."""
    print(
        f"\n{FLAGS.backbone}, {FLAGS.image_size} px, batch {FLAGS.batch_size}, {precision}, "
        f"{os.cpu_count()} cores; fastest convolution {max(peak.values()):.0f} GFLOP/s (float32); "
        f"median of {len(rounds)} rounds of {FLAGS.steps} steps\n"
    )
    print("| | s per step | peer time / ours | peak MiB | our memory / peer | first loss |")
    print("|---|---|---|---|---|---|")
    for name in memory:
        seconds = statistics.median(one[name] for one in rounds)
        ratio = statistics.median(one[name] / one["ours"] for one in rounds)
        relative = memory["ours"] / memory[name]
        print(
            f"| {name} | {seconds:.2f} | {ratio:.2f} | {memory[name]:.0f} | {relative:.2f} | "
            f"{losses[name][0]:.5f} |"
        )


if __name__ == "__main__":
    app.run(main)
