"""Options of a pre-training."""

import dataclasses

from pixpro_keras.cli.options.evaluation_options import EvaluationOptions
from pixpro_keras.cli.options.method_options import ModelOptions
from pixpro_keras.cli.options.monitor_options import MonitorOptions
from pixpro_keras.cli.options.option_fields import option, with_default
from pixpro_keras.cli.options.run_options import CardOptions
from pixpro_keras.cli.options.training_options import TrainingJobOptions


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
