"""Time and memory of evaluation and transfer tasks, compared with PyTorch and torchvision.

python benchmarks/peer_ratios.py --coco=FOLDER_OF_A_COCO_SET

Each side runs in a process of its own and does the same work. After a warm-up, the processes are timed
alternately; the one that waits is stopped by a signal. A round is repeated if other processes used more
than `--disturbance` of the CPU. Needs torch and torchvision with its compiled operators. The pre-training
step and its input are compared by `step_ratio.py` and `input_ratio.py`.
"""

import os
import pathlib
import statistics
import tempfile

from absl import app, flags
from turns import Worker, has_bfloat16, processor, take_turns

# Task -> name in the table; precisions; steps per round; largest relative difference of the values that
# both sides return after the warm-up (None: not comparable).
TASKS = {
    "knn": ("k-NN, 20k x 512, 5k queries", ("float32",), 1, 1e-3),
    "linear_probe": ("linear probe, epoch of 78 steps, 1 head", ("float32",), 3, 0.1),
    "linear_probe_6": ("the same, 6 heads", ("float32",), 3, 0.1),
    "fcn_training": ("FCN, ResNet-50, training step", ("float32", "bfloat16"), 1, 0.2),
    "fcn_inference": ("FCN, inference", ("float32", "bfloat16"), 1, 0.0),
    "mask_rcnn_fpn_training": ("Mask R-CNN FPN, training step", ("float32", "bfloat16"), 1, None),
    "mask_rcnn_fpn_inference": ("Mask R-CNN FPN, inference", ("float32", "bfloat16"), 1, 0.05),
    "faster_rcnn_c4_training": ("Faster R-CNN C4, training step", ("float32", "bfloat16"), 1, None),
    "faster_rcnn_c4_inference": ("Faster R-CNN C4, inference", ("float32", "bfloat16"), 1, 0.05),
    "paste": ("pasting and encoding 20 masks of 1080 x 1920", ("float32",), 3, 0.02),
    "detection_input": ("detection input, an image", ("float32",), 20, None),
    "detection_input_masks": ("detection input with masks, an image", ("float32",), 20, None),
}

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum("task", list(TASKS), list(TASKS), "Tasks to measure.")
flags.DEFINE_string("coco", None, "Folder of a COCO set with masks, for the detection input.")
flags.DEFINE_string("coco_split", "train2017", "Split of the COCO set.")
flags.DEFINE_integer("height", 480, "Height of a detector's image in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("width", 640, "Width of a detector's image in pixels, a multiple of 32.", 32)
flags.DEFINE_integer("crop_size", 256, "Side of an FCN's crops in pixels.", 32)
flags.DEFINE_integer("rounds", 5, "Number of rounds; medians are printed.", 1)
flags.DEFINE_integer("warm_up", 2, "Untimed steps.", 1)
flags.DEFINE_float("disturbance", 0.05, "Largest CPU share of other processes in a round.", 0, 1)
flags.DEFINE_string("output", None, "Output file for the table, besides the terminal.")


def measure(task: str, precision: str) -> str:
    """Measures both sides of a task and returns the table's row."""
    name, _, steps, tolerance = TASKS[task]
    arguments = [f"--case={task}", f"--precision={precision}", f"--coco_split={FLAGS.coco_split}"]
    arguments += [f"--{one}={FLAGS[one].value}" for one in ("height", "width", "crop_size")]
    arguments += [f"--coco={FLAGS.coco}"] if FLAGS.coco else []
    scratch = tempfile.TemporaryDirectory()
    if "rcnn" in task:  # Our process starts first and writes the weights.
        arguments.append(f"--weights={scratch.name}/weights.npz")
    workers: dict[str, Worker] = {}
    try:
        returned = {}
        for side, script in (("ours", "tasks_keras.py"), ("theirs", "tasks_torch.py")):
            workers[side] = Worker(script, arguments)
            returned[side] = workers[side].ask(f"steps {FLAGS.warm_up}")["losses"][-1]
        ours, theirs = returned["ours"], returned["theirs"]
        if tolerance is not None and abs(ours - theirs) > tolerance * abs(theirs):
            raise SystemExit(f"{task}: both sides return different values: {returned}")
        rounds = take_turns(workers, steps, FLAGS.rounds, FLAGS.disturbance)
        memory = {side: worker.peak_mib() for side, worker in workers.items()}
    finally:
        for worker in workers.values():
            worker.close()
        scratch.cleanup()
    seconds = statistics.median(one["ours"] for one in rounds)
    ratios = sorted(one["theirs"] / one["ours"] for one in rounds)
    return (
        f"| {name} | {precision} | {1e3 * seconds:.4g} | {statistics.median(ratios):.2f} "
        f"| {ratios[0]:.2f}, {ratios[-1]:.2f} | {memory['ours'] / memory['theirs']:.2f} "
        f"| {ours:.4g}, {theirs:.4g} |"
    )


def main(argv: list[str]) -> None:
    """Measures and prints a Markdown table."""
    del argv
    lines = [
        f"{processor()}; detectors at {FLAGS.height} x {FLAGS.width} px, FCN on 4 crops of "
        f"{FLAGS.crop_size} px; median of {FLAGS.rounds} rounds\n",
        "| task | precision | ours, ms | peer time / ours | lowest, highest | our memory / peer "
        "| returned: ours, theirs |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    for task in FLAGS.task:
        if task.startswith("detection_input") and not FLAGS.coco:
            print(f"{task} is skipped: it needs --coco", flush=True)
            continue
        for precision in TASKS[task][1]:
            if precision == "bfloat16" and not has_bfloat16():
                continue
            lines.append(measure(task, precision))
            print(lines[-1], flush=True)
            if FLAGS.output:
                pathlib.Path(FLAGS.output).write_text(os.linesep.join(lines) + os.linesep)


if __name__ == "__main__":
    app.run(main)
