"""Converts published PyTorch weights: the authors' checkpoints, and ResNets of other methods.

pixpro-convert --input=ckpt_epoch_100.pth --output=converted/pixpro
pixpro-convert --input=moco_v2_800ep_pretrain.pth.tar --output=converted/mocov2

Writes `backbone.keras`, which plain Keras opens, and a model card. Of a checkpoint of the PixPro release
also the whole training state, from which `pixpro-pretrain --flagfile=OUTPUT/flags.cfg` continues.
"""

import dataclasses
import os
import pathlib
import tempfile

import keras

from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.method_options import ModelOptions, build_training, identity
from pixpro_keras.cli.options.option_fields import (
    FlagError,
    option,
    option_fields,
    without_effect,
)
from pixpro_keras.cli.options.parsing import write_flags
from pixpro_keras.cli.options.run_options import CardOptions
from pixpro_keras.cli.shared import command
from pixpro_keras.training.checkpoints import Checkpoints
from pixpro_keras.utils.checksums import file_sha256
from pixpro_keras.weights import FORMATS, export_backbone, official, write_card
from pixpro_keras.weights.torch import (
    TorchFileError,
    backbone_from_state_dict,
    find_state_dict,
    read_torch_file,
)

_OWN_FLAGS = ("input", "output", "layout", "format")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertOptions(ModelOptions, CardOptions):
    """Options of a conversion."""

    input: str = option(
        None,
        "Torch file to convert (.pth, .pt, .tar, .bin, .ckpt, .safetensors).",
        is_required=True,
    )
    output: str = option(None, "New folder for the results.", is_required=True)
    layout: str = option(
        "auto",
        "Content of the file: release, a checkpoint of the PixPro release; torchvision, a plain ResNet "
        "with torchvision's variable names, after any usual prefix (module.encoder_q., backbone., ...).",
        choices=("auto", "release", "torchvision"),
    )
    format: tuple[str, ...] = option(
        ("keras",), f"Formats of the backbone's files, of {', '.join(FORMATS)}."
    )
    workdir: str = without_effect(ModelOptions, "workdir", "the run is in --output")


def run(options: ConvertOptions) -> None:
    """Converts the file."""
    source = pathlib.Path(options.input).expanduser()
    output = pathlib.Path(options.output).expanduser()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FlagError(f"--output={options.output}: exists already and is not an empty folder")
    with flag_errors(options, "input"):
        content = read_torch_file(source)
        state = find_state_dict(content, source)
    with flag_errors(options, "output"):
        output.parent.mkdir(parents=True, exist_ok=True)
        # Written to a temporary name first, so that a failure leaves no incomplete file.
        folder = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    with folder as temporary:
        results = pathlib.Path(temporary) / output.name
        results.mkdir()
        is_official = options.layout == "release" or (
            options.layout == "auto" and official.is_official_state(state)
        )
        with flag_errors(options, "input"):
            facts = (
                convert_official(options, content, source, results, output)
                if is_official
                else convert_backbone(options, state, source, results)
            )
        write_card(
            results,
            facts.pop("Architecture"),
            title=output.name,
            facts={"Source file": source.name, "SHA-256": f"`{file_sha256(source)}`", **facts},
            license_name=options.license,
        )
        if output.exists():
            output.rmdir()  # empty, but not to be replaced on every system
        os.replace(results, output)
    print(f"Converted to {output}:")
    for path in sorted(output.iterdir()):
        print(f"  {path.name}{'/' if path.is_dir() else ''}")
    if is_official:
        print(f"Continue: pixpro-pretrain --flagfile={output / 'flags.cfg'} --dataset=...")


def convert_backbone(
    options: ConvertOptions, state, source: pathlib.Path, results: pathlib.Path
) -> dict[str, str]:
    """Writes the backbone of a plain state dict. Returns its entries for the model card."""
    of_training = {field.name for field in option_fields(ModelOptions)} - {"backbone"}
    refuse_unused(options, dict.fromkeys(of_training, "the file holds no training to continue"))
    expected = options.backbone if options.is_given("backbone") else None
    network, name, prefix = backbone_from_state_dict(state, source, expected)
    export(options, network, name, results)
    left = sorted({key.split(".")[0] for key in state if not key.startswith(prefix)})
    return {
        "Architecture": name,
        "Weights below": f"`{prefix}`" if prefix else "the top of the file",
        "Left out": ", ".join(left) or "classifiers and heads, if there are any",
    }


def export(options: ConvertOptions, network: keras.Model, name: str, results: pathlib.Path) -> None:
    """Writes a backbone in the formats that were asked for."""
    with flag_errors(options, "format"):
        export_backbone(network, name, results, options.format)


def convert_official(
    options: ConvertOptions,
    content,
    source: pathlib.Path,
    results: pathlib.Path,
    output: pathlib.Path,
) -> dict[str, str]:
    """Writes the backbone and the training state. Returns their entries for the model card."""
    checkpoint = official.parse_official_checkpoint(content, source)
    network = official.describe_network(checkpoint)
    name = network["backbone"]
    if options.is_given("backbone") and options.backbone != name:
        raise TorchFileError(f"{source}: holds {name}, not {options.backbone}")
    options = continuing(options, checkpoint, network, output)
    # Without a number of steps in the file, the position is 0.
    method = build_training(options)
    official.load_official_checkpoint(method, checkpoint)
    export(options, method.encoder.backbone, name, results)
    Checkpoints(results / "checkpoints", method, identity(options)).save()
    write_flags(options, results, but=_OWN_FLAGS)
    has_state = "with momenta" if checkpoint.momenta else "without the optimizer's momenta"
    position = "unknown" if checkpoint.step is None else f"{checkpoint.step} steps"
    return {
        "Architecture": name,
        "Method": f"PixPro, {options.transform_layers} transform layers"
        + (", instance branch" if options.instance_weight else ""),
        "Epochs": "unknown" if checkpoint.epoch is None else str(checkpoint.epoch),
        "Training state": f"online and target networks, projectors, PPM; {has_state}; {position}",
    }


def continuing(
    options: ConvertOptions,
    checkpoint: official.OfficialCheckpoint,
    network: dict,
    output: pathlib.Path,
) -> ConvertOptions:
    """Returns the options for continuing the checkpoint, as far as it stores them.

    Raises:
        FlagError: if one was given that the checkpoint contradicts.
    """
    values: dict = {
        "method": "pixpro",
        "backbone": network["backbone"],
        "projector_hidden_dim": network["hidden_dim"],
        "projector_dim": network["out_dim"],
        "transform_layers": network["num_transform_layers"],
        "instance_weight": network["instance_weight"],
    }
    values |= {k: network[k] for k in ("gamma", "threshold", "base_momentum") if k in network}
    names = {
        "epochs": "epochs",
        "warmup_epoch": "warmup_epochs",
        "base_learning_rate": "base_learning_rate",
        "weight_decay": "weight_decay",
        "momentum": "sgd_momentum",
        "image_size": "image_size",
    }
    stated = checkpoint.options
    values |= {ours: stated[theirs] for theirs, ours in names.items() if theirs in stated}
    if checkpoint.peak_learning_rate and "base_learning_rate" in stated:
        # The release's batch_size is that of one GPU; the learning rate is for the batch of all.
        share = checkpoint.peak_learning_rate / stated["base_learning_rate"]
        values["batch_size"] = round(256 * share)
    if checkpoint.step and checkpoint.epoch:
        values["steps_per_epoch"] = checkpoint.step // checkpoint.epoch
    changed = {name: value for name, value in values.items() if getattr(options, name) != value}
    unused = {name: f"the checkpoint has {value}" for name, value in changed.items()}
    refuse_unused(options, unused, with_defaults=True)
    return options.replace(**values, workdir=str(output))


def main() -> None:
    """Runs the command."""
    command.run(ConvertOptions, run, __doc__ or "")
