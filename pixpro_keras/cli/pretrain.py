r"""Pre-trains a backbone on unlabeled images.

Run with a preset, a data set and anything else that differs:

    pixpro-pretrain --flagfile=quickstart.cfg
    pixpro-pretrain --dataset=folder:photos --backbone=resnet18_v1_5 \
        --image_size=96 --batch_size=64 --epochs=30 --workdir=runs/photos

The same command continues an interrupted run. `--help` lists the flags.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import random
from collections.abc import Mapping

import keras
import numpy as np

from pixpro_keras import backbones
from pixpro_keras.backbones.dtype_policies import global_policy
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.backbone_options import check_backbone, log_input
from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.method_checks import warn_of_long_queue
from pixpro_keras.cli.options.method_options import build_training, identity, resolve_classes
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.pretrain_options import (
    PretrainOptions,
    check_pretraining,
    check_sizes,
)
from pixpro_keras.cli.options.run_options import resolve_precision
from pixpro_keras.cli.options.training_options import resolve_lengths
from pixpro_keras.cli.options.view_options import data_config
from pixpro_keras.cli.shared import training_job
from pixpro_keras.cli.shared.finished_run import finish_run
from pixpro_keras.cli.shared.initial_weights import initial_file, read_init_weights
from pixpro_keras.cli.shared.measurements import build_measurements
from pixpro_keras.cli.shared.opened_run import open_run, run_training, write_at_end
from pixpro_keras.cli.shared.run_views import RunViews
from pixpro_keras.cli.shared.stored_run import with_moved_backbone
from pixpro_keras.data import pipeline, service, sources
from pixpro_keras.data.sources import Source
from pixpro_keras.evaluation.monitor import Monitor
from pixpro_keras.methods import METHODS, PretrainMethod
from pixpro_keras.training.callbacks import FeatureRank
from pixpro_keras.training.run_config import RunResult
from pixpro_keras.training.workdir import INITIAL_FILE
from pixpro_keras.training.workers import chief_first, is_chief
from pixpro_keras.types import VIEW1
from pixpro_keras.utils.files import write_atomically
from pixpro_keras.visualize.run_pictures import RunPictures


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainResult(RunResult):
    """Result of a pre-training: networks and files, and `steps`, `metrics` and the rest of `RunResult`.

    Attributes:
        backbone: trained, with the weights of the last step.
        method: encoder, target encoder, heads and optimizer.
        workdir: folder of the run.
        options: options of the run, resolved; `flags.cfg` holds the same.
        exported: exported file -> its use; empty if a signal ended the run, and on workers other
            than the chief.
    """

    backbone: keras.Model
    method: PretrainMethod
    workdir: pathlib.Path
    options: PretrainOptions
    exported: Mapping[pathlib.Path, str]


def pretrain(
    dataset: str | os.PathLike | None = None,
    workdir: str | os.PathLike | None = None,
    *,
    preset: str | os.PathLike | None = None,
    **options,
) -> PretrainResult:
    """Pre-trains a backbone on unlabeled images, as the command `pixpro-pretrain` does.

    Uses the devices of the machine, writes checkpoints, logs, pictures and the exported backbone to
    `workdir`, and continues an interrupted run there, with the same weights as without the break.
    Keras's dtype policy and the random numbers of Python and NumPy are afterwards as they were; the random
    seeds of TensorFlow and Keras are the run's.

    Args:
        dataset: images: `folder:PATH`, `tfds:NAME`, `tfrecord:GLOB`, `scenes`, or several with `+`
            between; a path object is a folder.
        workdir: folder of the run.
        preset: name of a preset of the package (`pixpro_r50_100ep`) or path of a flag file, whose values
            the other arguments override.
        **options: any flag of the command by its name: `method="pixpro"`, `backbone="resnet18_v1_5"`,
            `image_size=96`, `batch_size=64`, `epochs=30`, ... `backbone` may also be a functional Keras
            model from images to a map, such as a backbone of KerasHub. The training starts from its
            weights and updates them in place.

    Returns:
        The trained backbone, the files and the last metrics.

    Raises:
        TypeError: if an option is unknown.
        ValueError: if the value of an option cannot be used.
        RuntimeError: if the training ends early: not finite, broken images, a full disk, too little memory,
            lost workers.

    Example:
        ```python
        import numpy as np
        import pixpro_keras

        result = pixpro_keras.pretrain(
            "folder:photos",
            "runs/photos",
            preset="pixpro_small",
            image_size=32,
            batch_size=4,
            epochs=1,
            picture_every_steps=0,
        )
        maps = result.backbone(np.zeros((1, 64, 64, 3)))
        assert maps.shape == (1, 2, 2, 512)
        ```
    """
    if isinstance(dataset, os.PathLike):
        dataset = f"folder:{os.fspath(dataset)}"
    named = {"dataset": dataset, "workdir": workdir}
    options |= {name: value for name, value in named.items() if value is not None}
    base = None
    if preset is not None:
        name = os.fspath(preset)
        name = name if name.endswith(".cfg") else f"{name}.cfg"
        base, _ = parsing.parse(PretrainOptions, [f"--flagfile={name}"])
    network = options.get("backbone")
    with contextlib.ExitStack() as stack:
        # The run changes them.
        stack.enter_context(global_policy(keras.config.dtype_policy()))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        if isinstance(network, keras.Model):
            made = PretrainOptions.make(base, **options | {"backbone": INITIAL_FILE})
            made = made.replace(backbone=stack.enter_context(initial_file(made, network)))
        else:
            made = PretrainOptions.make(base, **options)
        result = run(made)
    if isinstance(network, keras.Model) and not result.is_dry_run:
        backbones.copy_weights(result.backbone, network)
    return result


def run(options: PretrainOptions) -> PretrainResult:
    """Runs a pre-training: devices, data, training, export.

    Args:
        options: options as the user gave them; lengths and classes are resolved here.

    Raises:
        FlagError: if an option cannot be used.
    """
    options = resolve_precision(options)
    check_pretraining(options)
    if not os.path.exists(os.path.expanduser(options.backbone)):
        options = with_moved_backbone(options, pathlib.Path(options.workdir).expanduser())
    with training_job.start(options) as job:
        # After the devices, which cannot be set up once a network has been read from its file.
        check_backbone(options)
        check_sizes(options)
        return train(options, job)


def train(options: PretrainOptions, job: training_job.StartedJob) -> PretrainResult:
    """Trains and exports in the directory of a job that has been started.

    Args:
        options: options of `run`.
        job: devices and directory.

    Raises:
        FlagError: if an option cannot be used.
    """
    workdir, strategy = job.workdir, job.strategy
    view_config = _make_view_config(options)
    # Before the images, since listing or preparing a large set takes long.
    with chief_first(strategy):
        trained = read_init_weights(options)
    with chief_first(strategy):
        source = _open_images(options)
    options = resolve_classes(options, source)
    options = resolve_lengths(options, source.num_examples)
    warn_of_long_queue(options, source.num_examples)

    log_input(options)
    views = RunViews(options, source, view_config, job.replica_batch_size)
    # Again: reading a network and drawing the scenes use random numbers, but not in every process and run.
    keras.utils.set_random_seed(options.seed)
    with strategy.scope():
        method = build_training(options, views.device_transform, trained)
    backbone = method.encoder.backbone
    measurements: list[Monitor] = []
    if is_chief(strategy):  # Before anything is written, since a data set may be refused.
        measurements = build_measurements(options, backbone, views.preprocess, strategy)

    origin = "" if options.init_weights is None else f", from {options.init_weights}"
    opened = open_run(
        job,
        options,
        method,
        identity(options),
        source,
        header={"method": options.method, "backbone": options.backbone + origin},
        data=options.dataset,
        num_images=source.num_examples,
    )
    views.plan_cache()
    result = run_training(
        opened,
        views.batches,
        broken=views.broken,
        name_images=views.names,
        measurements=measurements,
        make_chief_callbacks=lambda: _chief_callbacks(
            options, workdir, method, views, opened.first_step
        ),
    )
    exported = write_at_end(
        job, result, lambda: _finish(options, workdir, method, source.num_examples)
    )
    return PretrainResult(
        **vars(result),
        backbone=backbone,
        method=method,
        workdir=workdir,
        options=options,
        exported=exported or {},
    )


def _make_view_config(options: PretrainOptions) -> pipeline.DataConfig:
    """Returns the configuration of the views that the method takes."""
    areas = ("min_crop_area", "max_crop_area", "min_local_crop_area")
    with flag_errors(options, "augment_on", "augmentation", *areas):
        return data_config(
            options,
            num_views=METHODS[options.method].num_views,
            with_jigsaw=METHODS[options.method].uses_jigsaw,
            max_broken_share=options.max_broken_share,
            num_parallel_calls=options.input_threads,
            colors_on_device=options.augment_on == "device",
        )


def _open_images(options: PretrainOptions) -> Source:
    """Opens the training images and checks that they can be read, by `--data_service` too."""
    if options.data_service:
        with flag_errors(options, "data_service"):
            service.check_address(options.data_service)
    with flag_errors(options, "dataset"):
        source = sources.open_source(options.dataset, data_dir=options.data_dir)
        pipeline.check_decodable(source)
    if options.data_service:
        with flag_errors(options, "data_service"):
            service.check_source(source)
    return source


def _chief_callbacks(
    options: PretrainOptions,
    workdir: pathlib.Path,
    method: PretrainMethod,
    views: RunViews,
    first_step: int,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of the rank and of the pictures; writes the bounds of the losses."""
    # At the start, so that curves of an unfinished run have them.
    bounds = json.dumps(dict(method.loss_bounds))
    write_atomically(workdir / "loss_bounds.json", bounds.encode())
    rank = FeatureRank(lambda: views.one_batch(0)[VIEW1], options.steps_per_epoch or 1)
    if not (options.picture_every_steps and views.config.num_views == 2):
        return [rank]
    pictures = RunPictures(
        workdir,
        views.one_batch(first_step),
        method.encoder,
        views.preprocess,
        every_steps=options.picture_every_steps,
        threshold=options.threshold,
        images=views.whole_images(),
    )
    return [rank, pictures]


def _finish(
    options: PretrainOptions, workdir: pathlib.Path, method: PretrainMethod, num_images: int
) -> dict[pathlib.Path, str]:
    """Runs `finish_run`; an error of the disk names the way out."""
    try:
        return finish_run(options, workdir, method, num_images)
    except OSError as error:
        raise FlagError(
            f"--workdir={options.workdir}: trained and saved, but the results cannot be written: {error}. "
            "The same command writes them"
        ) from error


def main() -> None:
    """Runs the command."""
    training_job.main(PretrainOptions, run, __doc__ or "")
