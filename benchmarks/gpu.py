"""Time of the training step, the input and the detectors on a GPU, compared with PyTorch if installed.

python benchmarks/gpu.py --dataset=folder:PATH --output=gpu.md

Runs the other scripts with sizes that fill a GPU and prints their tables. The GPU is fully used only if the
input makes more images/s than the step. Without a GPU, small sizes run on the CPU, to try the script.
"""

import importlib.util
import pathlib
import subprocess
import sys

import pixpro_keras  # noqa: F401  # isort: skip
import tensorflow as tf
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "dataset", None, "Images for the input benchmark: folder:PATH, ...", required=True
)
flags.DEFINE_string("coco", None, "Folder of a COCO set with masks, for the detection input.")
flags.DEFINE_integer("rounds", 5, "Number of rounds; medians are printed.", 1)
flags.DEFINE_float("disturbance", 0.05, "Largest CPU share of other processes in a round.", 0, 1)
flags.DEFINE_string("output", None, "Output file for the tables, besides the terminal.")

# Network, side of the views in pixels, images per step.
_STEPS = {
    True: [("resnet50_v1_5", 224, 128), ("resnet18_v1_5", 96, 512)],
    False: [("resnet18_v1_5", 64, 4)],
}
_TASKS = ("fcn", "mask_rcnn_fpn", "faster_rcnn_c4")


def commands(is_gpu: bool) -> list[list[str]]:
    """Command lines of the benchmarks: script name and arguments."""
    has_torch = importlib.util.find_spec("torch") is not None
    common = [f"--rounds={FLAGS.rounds}", f"--disturbance={FLAGS.disturbance}"]
    peers = f"--peers={'best' if has_torch else ''}"
    listed = []
    for backbone, size, batch in _STEPS[is_gpu]:
        sizes = [f"--backbone={backbone}", f"--image_size={size}", f"--batch_size={batch}"]
        listed.append(["step_ratio.py", *sizes, peers, *common])
    size = _STEPS[is_gpu][0][1]
    listed.append(["input_pipeline.py", f"--dataset={FLAGS.dataset}", f"--image_size={size}"])
    if has_torch and importlib.util.find_spec("torchvision"):
        height, width, crop = (800, 1088, 512) if is_gpu else (64, 96, 64)
        sizes = [f"--height={height}", f"--width={width}", f"--crop_size={crop}"]
        parts = ("training", "inference")
        tasks = [f"--task={task}_{part}" for task in _TASKS for part in parts]
        if FLAGS.coco:
            tasks += ["--task=detection_input_masks", f"--coco={FLAGS.coco}"]
        listed.append(["peer_ratios.py", *tasks, *sizes, *common])
    return listed


def main(argv: list[str]) -> None:
    """Runs all scripts, also after one has failed."""
    del argv
    gpus = tf.config.list_physical_devices("GPU")
    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in gpus
    ]
    parts = [f"# {', '.join(names) or 'No GPU, measured on the CPU'}\n"]
    failed = []
    for script, *arguments in commands(bool(gpus)):
        parts.append(f"\n`{script} {' '.join(arguments)}`\n")
        print(parts[-1], flush=True)
        path = pathlib.Path(__file__).with_name(script)
        command = [sys.executable, str(path), *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                parts.append(line.rstrip("\n"))
                print(parts[-1], flush=True)
        if process.returncode:
            failed.append(script)
        if FLAGS.output:
            pathlib.Path(FLAGS.output).write_text("\n".join(parts))
    if failed:
        raise SystemExit(f"Failed scripts: {', '.join(failed)}")


if __name__ == "__main__":
    app.run(main)
