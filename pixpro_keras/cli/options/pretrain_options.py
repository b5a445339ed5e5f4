"""Options of a pre-training, and their checks."""

import dataclasses

from pixpro_keras import backbones
from pixpro_keras.cli.options.evaluation_options import EvaluationOptions
from pixpro_keras.cli.options.flag_errors import refuse_unused
from pixpro_keras.cli.options.method_checks import check_method
from pixpro_keras.cli.options.method_options import ModelOptions
from pixpro_keras.cli.options.monitor_options import MonitorOptions, check_measurements
from pixpro_keras.cli.options.option_fields import FlagError, option, with_default
from pixpro_keras.cli.options.run_options import CardOptions
from pixpro_keras.cli.options.training_options import TrainingJobOptions
from pixpro_keras.data.transforms import patch_size
from pixpro_keras.methods import METHODS


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainOptions(ModelOptions, MonitorOptions, CardOptions, TrainingJobOptions):
    """Options of a pre-training."""

    dataset: str = option(
        None,
        "Images: scenes (drawn by the package), folder:PATH, tfds:NAME[/config][:split], tfrecord:GLOB; "
        "several are joined by +: folder:PATH+folder:PATH.",
        is_required=True,
    )
    workdir: str = with_default(TrainingJobOptions, "workdir", None, is_required=True)
    init_weights: str | None = option(
        None,
        "Initial weights of --backbone and its moving average: the folder of a run or conversion; a "
        ".keras, .h5, .pth, .ckpt or detectron2 .pkl file; or imagenet, those of keras.applications. "
        "Default: new weights, or those in --backbone=FILE.keras.",
        is_main=True,
    )
    picture_every_steps: int = option(
        500, "Steps between pictures of views and similarity; 0: none.", minimum=0
    )
    max_broken_share: float = with_default(EvaluationOptions, "max_broken_share", 0.01)
    input_threads: int | None = option(
        None, "Threads that decode and augment. Default: automatic.", above=0
    )
    image_cache_share: float = option(
        0.1,
        "Fraction of the memory, per process, for decoded images: if all images of the data set fit, each"
        " is decoded only once; 0: never. The batches are the same.",
        minimum=0,
        maximum=1,
    )
    augment_on: str = option(
        "host",
        "Place of the color and blur augmentation: host, the CPU; or device, the accelerator as part of "
        "the training step, for when it would otherwise wait for the CPU.",
        choices=("host", "device"),
    )
    data_service: str | None = option(
        None,
        "HOST:PORT of a dispatcher of pixpro-data-service, whose workers read, decode and augment the images "
        "of folder:PATH. The run is then not reproducible: the images of a step depend on the speed of "
        "the workers, a resumed run sees other images than an uninterrupted one, and the images of a lost"
        " worker are missing from that epoch. Broken images are skipped without a message.",
    )
    probe: str = option(
        "none",
        "Comparison, at the end, of the backbone with its random initialization and with --init_weights: "
        "k-NN and linear probes of frozen features on held-out scenes.",
        choices=("none", "scenes"),
    )


def check_pretraining(options: PretrainOptions) -> None:
    """Checks the flags that need no network and no data.

    Raises:
        FlagError: if one has no effect, or contradicts others.
    """
    check_method(options)
    check_measurements(options)
    _check_service(options)


def _check_service(options: PretrainOptions) -> None:
    """Raises `FlagError` for options that have no effect with a data service, or contradict it."""
    if options.data_service is None:
        return
    service_flag = f"--data_service={options.data_service}"
    if options.deterministic:
        raise FlagError(
            f"--deterministic: {service_flag} gives a step the images that are ready first, so that no "
            "run repeats another"
        )
    refuse_unused(options, {"image_cache_share": f"the workers of {service_flag} keep no images"})


def check_sizes(options: PretrainOptions) -> None:
    """Checks image sizes besides `--image_size`.

    Args:
        options: whose `backbone` is the network.

    Raises:
        FlagError: if the network does not take one.
    """
    smallest = backbones.min_image_size(options.backbone)
    if options.local_views and options.local_image_size < smallest:
        raise FlagError(
            f"--local_image_size={options.local_image_size}: {options.backbone} takes {smallest} px or more"
        )
    has_jigsaw, patch = METHODS[options.method].uses_jigsaw, patch_size(options.image_size)
    # Other networks take less than the 32 px that are the least for a view.
    if has_jigsaw and patch < smallest != 32:
        raise FlagError(
            f"--method={options.method} --image_size={options.image_size}: the patches of its puzzle have "
            f"{patch} px, and {options.backbone} takes {smallest} px or more"
        )
    if backbones.fixed_image_size(options.backbone) is None:
        return
    flags = {
        f"--method={options.method}": has_jigsaw,
        f"--local_views={options.local_views}": options.local_views > 0,
        f"--probe={options.probe}": options.probe != "none",
    }
    for flag, is_given in flags.items():
        if is_given:
            raise FlagError(
                f"{flag}: shows images of another size, and {options.backbone} takes "
                f"{options.image_size} px only"
            )
