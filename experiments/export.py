"""Exports the backbone of a run, from its newest checkpoint or any other.

python experiments/export.py --workdir=runs/pretrain
python experiments/export.py --workdir=runs/pretrain --checkpoint=ckpt-500 --output=exports
"""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import common_flags
import method_flags
import tensorflow as tf
from absl import flags
from common_flags import FLAGS, FlagError, blame

from pixpro_keras.export import FORMATS, export_backbone
from pixpro_keras.training.checkpoints import load_weights

flags.DEFINE_string("checkpoint", None, "Name of a checkpoint in the run. Default: the newest.")
flags.DEFINE_string("output", None, "Where the files go. Default: WORKDIR/export.")
flags.DEFINE_list(
    "format", None, f"What to write, of {', '.join(FORMATS)}. Default: all that the backbone has."
)


def main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    workdir = pathlib.Path(FLAGS.workdir).expanduser()
    checkpoint, formats = FLAGS.checkpoint, FLAGS.format
    output = pathlib.Path(FLAGS.output or workdir / "export").expanduser()
    if not (workdir / "flags.cfg").exists():
        raise FlagError(f"--workdir={FLAGS.workdir}: no flags.cfg there, so it is not a run")
    directory = workdir / "checkpoints"
    path = str(directory / checkpoint) if checkpoint else tf.train.latest_checkpoint(directory)
    if path is None or not os.path.exists(f"{path}.index"):
        raise FlagError(f"--checkpoint={checkpoint}: no such checkpoint in {directory}")
    # The run's own flags describe its network.
    FLAGS([argv[0], f"--flagfile={workdir / 'flags.cfg'}"], known_only=True)
    method = method_flags.build_method(total_steps=1)
    load_weights(method, path)
    with blame("format", "output"):
        written = export_backbone(method.encoder.backbone, FLAGS.backbone, output, formats)
    for file, what in written.items():
        print(f"{file}: {what}")
    return 0


if __name__ == "__main__":
    common_flags.run(main)
