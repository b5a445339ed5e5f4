"""Exports the backbone of a run, from its newest checkpoint or any other.

pixpro-export --input=runs/pretrain
pixpro-export --input=runs/pretrain --format=onnx,saved_model --features=c2-c5
pixpro-export --input=runs/pretrain --format=torch,detectron2 --output=exports
"""

import dataclasses
import os
import pathlib

from pixpro_keras import backbones
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.method_options import ModelOptions, build_training
from pixpro_keras.cli.options.option_fields import FlagError, option
from pixpro_keras.cli.options.parsing import FLAGS_FILE
from pixpro_keras.cli.options.run_options import CardOptions
from pixpro_keras.cli.options.training_options import build_schedule
from pixpro_keras.cli.shared import command, model_card, stored_run
from pixpro_keras.cli.shared.finished_run import export_fpn
from pixpro_keras.methods import PixPro, PretrainMethod
from pixpro_keras.training.checkpoints import latest_checkpoint, load_weights
from pixpro_keras.utils.checksums import listing
from pixpro_keras.weights import FORMATS, check_format, export_backbone, official, official_export


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions(CardOptions):
    """Options of an export."""

    input: str | None = option(None, "Folder of the run. Default: --workdir.")
    workdir: str = option("runs/pretrain", "Folder of the run, where --input is not given.")
    checkpoint: str | None = option(None, "Name of a checkpoint in the run. Default: the newest.")
    output: str | None = option(None, "Folder of the files. Default: export/ in the run's folder.")
    format: tuple[str, ...] | None = option(
        None,
        f"Formats to write, of {', '.join([*FORMATS, model_card.TORCH])}. torch is a checkpoint that the "
        "authors' scripts read: the training state of a PixPro as they train it, else the backbone. "
        "Default: all that Keras reads.",
    )
    features: str = option(
        "c5",
        "Outputs of saved_model, onnx and litert: the last map, four maps, or one vector per image.",
        choices=backbones.FEATURES,
    )


def run(options: ExportOptions) -> None:
    """Exports the backbone of a run in all formats."""
    workdir = pathlib.Path(options.input or options.workdir).expanduser()
    output = pathlib.Path(options.output or workdir / "export").expanduser()
    checkpoint = find_checkpoint(options, workdir)
    trained = stored_run.read_options(workdir)
    with_torch = model_card.TORCH in (options.format or ())
    formats = options.format and [one for one in options.format if one != model_card.TORCH]
    with flag_errors(options, "format", "features"):
        if with_torch and options.features != "c5":
            raise ValueError("the format torch holds the backbone up to c5")
        for chosen in formats or []:
            check_format(chosen, trained.backbone, options.features)

    method = build_training(trained)
    load_weights(method, checkpoint, optimizer=with_torch)
    written: dict[pathlib.Path, str] = {}
    given = [
        name for name in ("input", "workdir", "checkpoint", "output") if options.is_given(name)
    ]
    flags = parsing.serialize(options, *given) if given else []
    with (
        flag_errors(options, "format", "output"),
        model_card.naming_outdated(output, *flags),
    ):
        if formats != []:
            written = export_backbone(
                method.encoder.backbone, trained.backbone, output, formats, options.features
            )
            if formats is None or "keras" in formats:
                # Else the FPN of another step stays beside the backbone.
                written |= export_fpn(method, output)
        if with_torch:
            output.mkdir(parents=True, exist_ok=True)
            file = output / model_card.TORCH_FILE
            with listing(file, backbones.weights_digest(method.encoder.backbone)):
                written |= export_torch(trained, method, file)
        license_name = options.license if options.is_given("license") else trained.license
        card = model_card.write(trained, license_name, workdir, output, method)
        written[card] = "the model card"
    for file, what in written.items():
        print(f"{file}: {what}")


def find_checkpoint(options: ExportOptions, workdir: pathlib.Path) -> str:
    """Returns the path of `--checkpoint`, else of the run's newest.

    Raises:
        FlagError: if the folder is not that of a pre-training, or has no such checkpoint.
    """
    name = "input" if options.input else "workdir"
    if not (workdir / FLAGS_FILE).exists():
        raise FlagError(f"--{name}={workdir}: no {FLAGS_FILE} there, so it is not a run")
    directory = workdir / "checkpoints"
    named = options.checkpoint and str(directory / options.checkpoint)
    path = named or latest_checkpoint(directory)
    if path is None:
        raise FlagError(f"--{name}={workdir}: no checkpoints there, so it is not a pre-training")
    if not os.path.exists(f"{path}.index"):
        raise FlagError(f"--checkpoint={options.checkpoint}: no such checkpoint in {directory}")
    return path


def export_torch(
    options: ModelOptions, method: PretrainMethod, path: pathlib.Path
) -> dict[pathlib.Path, str]:
    """Writes a checkpoint in the release's layout: only the backbone if it cannot continue the run.

    Returns:
        The file -> its use.
    """
    step = method.steps_done()
    peak = options.peak_learning_rate
    progress = official_export.TrainingProgress(
        step=step,
        steps_per_epoch=options.steps_per_epoch or 1,
        epochs=options.epochs,
        warmup_epochs=options.warmup_epochs,
        peak_learning_rate=peak,
        learning_rate=float(build_schedule(options)(step)),
    )
    settings = {
        "arch": options.backbone.removesuffix("_v1_5"),
        "model": "PixPro",
        "optimizer": "lars",
        "lr_scheduler": "cosine",
        "amp_opt_level": "O0",
        "batch_size": options.batch_size,
        "base_learning_rate": 256 * peak / options.batch_size,
        "epochs": options.epochs,
        "warmup_epoch": options.warmup_epochs,
        "warmup_multiplier": 100,
        "weight_decay": options.weight_decay,
        "momentum": options.sgd_momentum,
        "image_size": options.image_size,
        "pixpro_p": options.gamma,
        "pixpro_momentum": method.base_momentum,
        "pixpro_pos_ratio": options.threshold,
        "pixpro_clamp_value": 0.0,
        "pixpro_transform_layer": options.transform_layers,
        "pixpro_ins_loss_weight": options.instance_weight,
    }
    reason = _why_backbone_alone(options, method)
    if reason is None:
        official_export.save_official_checkpoint(method, path, progress, settings)
        return {path: "the PixPro release's --resume and transfer scripts"}
    official_export.save_official_backbone(method.encoder.backbone, path, progress, settings)
    return {path: f"the PixPro release's transfer scripts, not its --resume: {reason}"}


def _why_backbone_alone(options: ModelOptions, method: PretrainMethod) -> str | None:
    """Returns the reason why the release could not continue the run; None if it could."""
    if not isinstance(method, PixPro):
        return f"it has no --method={options.method}"
    for name, theirs in (("optimizer", "lars"), ("schedule", "cosine")):
        if getattr(options, name) != theirs:
            return f"its PixPro has no --{name}={getattr(options, name)}"
    try:
        official.official_variables(method)
    except ValueError as error:
        return str(error)
    return None


def main() -> None:
    """Runs the command."""
    command.run(ExportOptions, run, __doc__ or "")
