"""CPU time of our input per two-view image against torchvision's, in alternation, as ratios.

python benchmarks/input_ratio.py --folder=FOLDER_OF_JPEGS

Both sides make the release's `BYOL` views of the same photographs on one thread and one core, and take
turns, the idle one stopped. User and system time of their processes counts, so that other programs on
the machine matter little. The mean pixel must agree before anything is reported. Needs torch and
torchvision; see input_torch.py.
"""

import os
import statistics

from absl import app, flags
from turns import Worker

FLAGS = flags.FLAGS
flags.DEFINE_string("folder", None, "Folder of JPEGs, at any depth.", required=True)
flags.DEFINE_integer("image_size", 224, "Side of the views in pixels.", 8)
flags.DEFINE_integer("batch_size", 16, "Images per batch.", 1)
flags.DEFINE_list("peers", ["pillow", "tensor"], "torchvision's variants; see input_torch.py.")
flags.DEFINE_integer("rounds", 9, "Rounds.", 1)
flags.DEFINE_integer("batches", 6, "Batches of each side in a round.", 1)
# Of the mean of normalized pixels, over all rounds; its standard error is about a tenth of this.
_PARITY = 0.15


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    if hasattr(os, "sched_setaffinity"):  # The workers inherit it.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"
    shared = [f"--{name}={FLAGS[name].value}" for name in ("folder", "image_size", "batch_size")]
    workers: dict[str, Worker] = {}
    rounds: list[dict[str, float]] = []
    means: dict[str, list[float]] = {}
    try:
        workers["ours"] = Worker("input_keras.py", shared)
        for peer in FLAGS.peers:
            arguments = [*shared, f"--variant={peer}"]
            workers[f"torchvision, {peer}"] = Worker("input_torch.py", arguments)
        for number in range(1 + FLAGS.rounds):  # The first compiles and does not count.
            answers = {name: one.ask(f"steps {FLAGS.batches}") for name, one in workers.items()}
            for name, answer in answers.items():
                means.setdefault(name, []).extend(answer["losses"])
            if number > 0:
                rounds.append({name: answer["cpu_seconds"] for name, answer in answers.items()})
        memory = {name: worker.peak_mib() for name, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
    pixels = {name: statistics.fmean(values) for name, values in means.items()}
    if any(abs(value - pixels["ours"]) > _PARITY for value in pixels.values()):
        raise SystemExit(f"The mean pixels differ, nothing is compared: {pixels}")
    images = FLAGS.batches * FLAGS.batch_size
    print(
        f"\n{FLAGS.image_size} px, one thread, median of {len(rounds)} rounds of {images} images\n"
    )
    print(
        "| | CPU ms per two-view image | their time / ours | lowest, highest | MiB | mean pixel |"
    )
    print("|---|---|---|---|---|---|")
    for name in workers:
        milliseconds = 1e3 * statistics.median(one[name] for one in rounds) / images
        ratios = [one[name] / one["ours"] for one in rounds]
        print(
            f"| {name} | {milliseconds:.2f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f}, {max(ratios):.2f} | {memory[name]:.0f} | {pixels[name]:.3f} |"
        )


if __name__ == "__main__":
    app.run(main)
