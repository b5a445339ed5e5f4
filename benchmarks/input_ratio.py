"""CPU time of the pre-training input per image, compared with torchvision.

python benchmarks/input_ratio.py --folder=FOLDER_OF_JPEGS

Both sides make two views of the same photographs with the `BYOL` augmentation of the authors' release, on one
thread and one core, and are timed alternately; the process that waits is stopped by a signal. User and
system time is measured, so that other load matters little. Results are printed only if the mean pixels
agree. Needs torch and torchvision; see input_torch.py.
"""

import os
import statistics

from absl import app, flags
from turns import Worker

FLAGS = flags.FLAGS
flags.DEFINE_string("folder", None, "Folder of JPEGs, at any depth.", required=True)
flags.DEFINE_integer("image_size", 224, "Side of the views in pixels.", 8)
flags.DEFINE_integer("batch_size", 16, "Images per batch.", 1)
flags.DEFINE_list("peers", ["pillow", "tensor"], "torchvision variants; see input_torch.py.")
flags.DEFINE_integer("rounds", 9, "Number of rounds; medians are printed.", 1)
flags.DEFINE_integer("batches", 6, "Batches of each side per round.", 1)
# Largest difference of the mean normalized pixels. Their standard error is about a tenth of it.
_PARITY = 0.15


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    if hasattr(os, "sched_setaffinity"):  # Inherited by the workers.
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
        for number in range(1 + FLAGS.rounds):  # The first round compiles and is not counted.
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
        raise SystemExit(f"The mean pixels differ, so nothing is reported: {pixels}")
    images = FLAGS.batches * FLAGS.batch_size
    print(
        f"\n{FLAGS.image_size} px, one thread, median of {len(rounds)} rounds of {images} images\n"
    )
    print("| | CPU ms per two-view image | peer time / ours | lowest, highest | MiB | mean pixel |")
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
