"""End of a pre-training: export, comparison, curves and the list of its files."""

import json
import pathlib

import keras

from pixpro_keras import backbones
from pixpro_keras.cli.options.backbone_options import build_backbone
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.cli.shared import model_card
from pixpro_keras.cli.shared.result_files import TRAINING_FILES, print_files
from pixpro_keras.evaluation.compare import by_measure, comparison_table
from pixpro_keras.evaluation.scenes_probe import probe_on_scenes
from pixpro_keras.methods import PretrainMethod
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.visualize.plots import plot_metrics
from pixpro_keras.weights import FPN_FILE, export_backbone, load_backbone, save_fpn


def finish_run(
    options: PretrainOptions, workdir: pathlib.Path, method: PretrainMethod, num_images: int
) -> dict[pathlib.Path, str]:
    """Exports the backbone, compares it with its random initialization, lists all files.

    Args:
        options: options of the run, resolved.
        workdir: the run's directory.
        method: trained.
        num_images: number of images it was trained on.

    Returns:
        Exported file -> its use.
    """
    backbone = method.encoder.backbone
    with model_card.naming_outdated(workdir / "export", f"--input={workdir}"):
        exported = export_backbone(backbone, options.backbone, workdir / "export")
        exported |= export_fpn(method, workdir / "export")
    card = model_card.write(
        options, options.license, workdir, workdir / "export", method, num_images
    )
    exported[card] = "model card: data, recipe, input convention, checksums"
    print()
    evaluations = {}
    if options.probe == "scenes":
        evaluations = _probe_on_scenes(options, workdir, backbone)
    plot_metrics(workdir / "metrics.jsonl", workdir / "curves.png", method.loss_bounds, evaluations)
    files = TRAINING_FILES | {
        "curves.png": "the scalars as charts",
        "pictures/": "matching cells of views; similarity before and after training",
    }
    for path, use in exported.items():
        # Its path is long, and the line starts with it.
        files[f"export/{path.name}"] = use.replace(repr(str(path)), "FILE")
    print(f"Run in {workdir}:")
    # Pictures, for example, are optional.
    print_files(workdir, {name: use for name, use in files.items() if (workdir / name).exists()})
    return exported


def _probe_on_scenes(
    options: PretrainOptions, workdir: pathlib.Path, backbone: keras.Model
) -> dict[str, dict[str, float]]:
    """Compares the backbone with its initial weights. Returns measure -> value of each for the curves."""
    keras.utils.set_random_seed(options.seed)  # The initialization of this run.
    compared = {"random initialization": build_backbone(options)}
    if options.init_weights is not None:
        with flag_errors(options, "init_weights"):
            loaded = load_backbone(options.init_weights, name=options.backbone)
        compared[f"initial weights, {options.init_weights}"] = loaded
    compared["pre-trained"] = backbone
    preprocess = backbones.preprocess_input(options.backbone)
    rows = probe_on_scenes(compared, preprocess, options.data_dir)
    write_atomically(workdir / "probe.json", json.dumps(rows, indent=2).encode())
    print(f"Held-out scenes, frozen features:\n\n{comparison_table(rows)}\n")
    return by_measure(rows)


def export_fpn(method: PretrainMethod, folder: pathlib.Path) -> dict[pathlib.Path, str]:
    """Writes the FPN of a trained method, if it has one. Returns file -> its use."""
    if method.encoder.fpn is None:
        return {}
    save_fpn(method.encoder.fpn, folder / FPN_FILE)
    return {folder / FPN_FILE: "the FPN, for Mask R-CNN FPN"}
