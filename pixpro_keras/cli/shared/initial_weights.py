"""Initial weights of a pre-training, from a file or from a model in memory."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

import keras
from absl import logging

from pixpro_keras import backbones
from pixpro_keras.backbones import network_files
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.cli.shared import training_job
from pixpro_keras.training.checkpoints import checkpoint_steps
from pixpro_keras.training.workdir import INITIAL_FILE
from pixpro_keras.weights import load_backbone


@contextlib.contextmanager
def initial_file(options: PretrainOptions, network: keras.Model) -> Iterator[str]:
    """Context that saves a network to a file for `--backbone`; a continued run uses its existing file.

    Args:
        options: options of the run.
        network: functional model from images to a map.

    Yields:
        Path of the file: in `--workdir`, or for a dry run a temporary file.

    Raises:
        ValueError: if the model is not a backbone.
        FlagError: if the file cannot be written, or a continued run has another network.
    """
    backbones.require_feature_map(network)
    workdir = pathlib.Path(options.workdir).expanduser()
    file = workdir / INITIAL_FILE
    if file.exists() and checkpoint_steps(workdir / "checkpoints"):
        try:
            backbones.check_same_weights(network, load_backbone(file))
        except ValueError as error:
            raise FlagError(
                f"--workdir={options.workdir}: the run there has another backbone: {error}"
            ) from error
        yield str(file)
        return
    with tempfile.TemporaryDirectory() as elsewhere:
        if options.dry_run:
            file = pathlib.Path(elsewhere) / "run" / INITIAL_FILE
        with flag_errors(options, "workdir"):
            training_job.check_place(options.workdir)
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=file.parent) as folder:
                network.save(pathlib.Path(folder) / INITIAL_FILE)
                os.replace(pathlib.Path(folder) / INITIAL_FILE, file)
        try:
            yield str(file)
        except BaseException:
            if not (file.parent / parsing.FLAGS_FILE).exists():
                file.unlink()  # The run did not start.
                if not any(file.parent.iterdir()):
                    file.parent.rmdir()
            raise


def read_init_weights(options: PretrainOptions) -> keras.Model | None:
    """Returns the network of `--init_weights`, or of `--backbone=FILE.keras`.

    None if the weights are random, or if the run (also in a dry run) continues from its own checkpoint.

    Args:
        options: options of the run.

    Raises:
        FlagError: if it cannot be loaded, or is another network than `--backbone`.
    """
    weights = options.init_weights
    if weights is None and network_files.is_file(options.backbone):
        weights = options.backbone
    workdir = pathlib.Path(options.workdir).expanduser()
    if weights is None or checkpoint_steps(workdir / "checkpoints"):
        return None
    with flag_errors(options, "init_weights", "backbone"):
        network = load_backbone(weights, name=options.backbone)
    logging.info(
        "The backbone starts from the weights of %s, so that --zero_init_residual and --kernel_fan have no "
        "effect. Heads are new.",
        weights,
    )
    warmup = options.warmup_iterations
    if not (options.warmup_epochs if warmup is None else warmup):
        logging.warning(
            "Initial weights without warm-up: the first steps, in which the heads are random, may destroy "
            "the weights. --warmup_epochs=1 or more prevents this"
        )
    return network
