"""Exports the backbone of a run, from its newest checkpoint or any other.

python experiments/export.py --input=runs/pretrain
python experiments/export.py --input=runs/pretrain --format=onnx,saved_model --features=c2-c5
python experiments/export.py --input=runs/pretrain --format=torch,detectron2 --output=exports
"""

import os
import pathlib

from absl import flags

from pixpro_keras import backbones
from pixpro_keras.cli.shared import common_flags, method_flags, model_card, training_flags
from pixpro_keras.cli.shared.common_flags import FLAGS, FlagError, blame
from pixpro_keras.methods import PixPro, PretrainMethod
from pixpro_keras.training.checkpoints import latest_checkpoint, load_weights
from pixpro_keras.utils.checksums import listing
from pixpro_keras.weights import FORMATS, check_format, export_backbone, official

flags.DEFINE_string("input", None, "Folder of the run. Default: --workdir.")
flags.DEFINE_string("checkpoint", None, "Name of a checkpoint in the run. Default: the newest.")
flags.DEFINE_string("output", None, "Where the files go. Default: export/ in the run's folder.")
flags.DEFINE_list(
    "format",
    None,
    f"What to write, of {', '.join([*FORMATS, 'torch'])}. torch is a checkpoint that the authors' "
    "scripts read. Default: all that Keras reads.",
)
flags.DEFINE_enum(
    "features",
    "c5",
    backbones.FEATURES,
    "What saved_model, onnx and litert give: the last map, four maps, or one vector per image.",
)
_TORCH = "torch"


def _main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    workdir = pathlib.Path(FLAGS.input or FLAGS.workdir).expanduser()
    checkpoint, formats, features = FLAGS.checkpoint, FLAGS.format, FLAGS.features
    license_flag = FLAGS["license"].value if FLAGS["license"].present else None
    output = pathlib.Path(FLAGS.output or workdir / "export").expanduser()
    if not (workdir / "flags.cfg").exists():
        name = "input" if FLAGS.input else "workdir"
        raise FlagError(f"--{name}={workdir}: no flags.cfg there, so it is not a run")
    directory = workdir / "checkpoints"
    path = str(directory / checkpoint) if checkpoint else latest_checkpoint(directory)
    if path is None or not os.path.exists(f"{path}.index"):
        raise FlagError(f"--checkpoint={checkpoint}: no such checkpoint in {directory}")
    # The run's own flags describe its network.
    FLAGS([argv[0], f"--flagfile={workdir / 'flags.cfg'}"], known_only=True)
    FLAGS.format, FLAGS.features = formats, features
    FLAGS.license = license_flag or FLAGS.license
    with_torch = formats is not None and _TORCH in formats
    backbone_formats = None if formats is None else [f for f in formats if f != _TORCH]
    with blame("format", "features"):
        for chosen in backbone_formats or []:
            check_format(chosen, FLAGS.backbone, features)

    method = method_flags.build_training(FLAGS.steps_per_epoch or 1)
    load_weights(method, path, optimizer=with_torch)
    written = {}
    with blame("format", "output"):
        if backbone_formats != []:
            written = export_backbone(
                method.encoder.backbone, FLAGS.backbone, output, backbone_formats, features
            )
        if with_torch:
            output.mkdir(parents=True, exist_ok=True)
            with listing(output / "release.pth"):
                written |= export_torch(method, output / "release.pth")
        written[model_card.write(workdir, output, method)] = "the model card"
    for file, what in written.items():
        print(f"{file}: {what}")
    return 0


def export_torch(method: PretrainMethod, path: pathlib.Path) -> dict[pathlib.Path, str]:
    """Writes a checkpoint in the release's layout; returns how to use it."""
    steps_per_epoch = FLAGS.steps_per_epoch or 1
    step = method.steps_done()
    peak = training_flags.peak_learning_rate()
    progress = official.TrainingProgress(
        step=step,
        steps_per_epoch=steps_per_epoch,
        epochs=FLAGS.epochs,
        warmup_epochs=FLAGS.warmup_epochs,
        peak_learning_rate=peak,
        learning_rate=float(training_flags.build_schedule(steps_per_epoch)(step)),
    )
    options = {
        "arch": FLAGS.backbone.removesuffix("_v1_5"),
        "model": "PixPro",
        "optimizer": "lars",
        "lr_scheduler": "cosine",
        "amp_opt_level": "O0",
        "batch_size": FLAGS.batch_size,
        "base_learning_rate": 256 * peak / FLAGS.batch_size,
        "epochs": FLAGS.epochs,
        "warmup_epoch": FLAGS.warmup_epochs,
        "warmup_multiplier": 100,
        "weight_decay": FLAGS.weight_decay,
        "momentum": FLAGS.sgd_momentum,
        "image_size": FLAGS.image_size,
        "pixpro_p": FLAGS.gamma,
        "pixpro_momentum": method.base_momentum,
        "pixpro_pos_ratio": FLAGS.threshold,
        "pixpro_clamp_value": 0.0,
        "pixpro_transform_layer": FLAGS.transform_layers,
        "pixpro_ins_loss_weight": FLAGS.instance_weight,
    }
    if isinstance(method, PixPro):
        official.save_official_checkpoint(method, path, progress, options)
    else:
        official.save_official_backbone(method.encoder.backbone, path, progress, options)
    return {path: "the PixPro release's --resume and transfer scripts"}


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
