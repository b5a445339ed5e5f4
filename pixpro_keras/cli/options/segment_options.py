"""Options of a segmentation, and the images and masks that they name."""

import dataclasses
import pathlib
import re

import numpy as np

from pixpro_keras import backbones
from pixpro_keras.cli.options.evaluation_options import fill_batch
from pixpro_keras.cli.options.fine_tuning_options import FineTuningOptions, refuse_image_size
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.option_fields import (
    FlagError,
    is_image_shape,
    option,
    option_fields,
    with_default,
)
from pixpro_keras.cli.options.split_options import SplitOptions, random_split, refuse_fraction
from pixpro_keras.cli.options.training_options import TrainingOptions
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.labels import select, warn_of_shared
from pixpro_keras.data.lookalikes import only_in
from pixpro_keras.segmentation.class_presence import read_presence, stratified_images
from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_files import is_flat_folder
from pixpro_keras.segmentation.mask_pipeline import CropConfig
from pixpro_keras.segmentation.mask_source import LabelValues, MaskSource, resized
from pixpro_keras.segmentation.mask_values import map_in_a_row, values_of, warn_of_gaps
from pixpro_keras.types import IGNORED

# Options without effect on L-BFGS, which has no steps, random crops or test windows.
_SGD_ALONE = {field.name for field in option_fields(TrainingOptions)} - {"deterministic", "dry_run"}
_SGD_ALONE |= {"bn_momentum", "color_jitter", "max_scale", "min_scale", "on_change", "tracker"}
_SGD_ALONE |= {"align_corners", "crop_size", "window_stride"}
_LABEL_PAIR = re.compile(r"\s*\d+:\d+\s*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentOptions(SplitOptions, FineTuningOptions):
    """Options of the segmentation."""

    dataset: str = option(
        None,
        "Images and masks: folder:PATH (PATH/train/images, PATH/train/labels, the same for val; or "
        "PATH/images and PATH/labels, split by --val_fraction), voc:PATH, cityscapes:PATH, "
        "tfds:NAME[/config], scenes.",
        is_required=True,
    )
    test_dataset: str | None = option(None, "Test images and masks. Default: those of --dataset.")
    train_split: str = option("train", "Training split.")
    test_split: str = option(
        "",
        "Test split. Default: val; validation for tfds: and scenes.",
    )
    ignore_value: int = option(
        IGNORED,
        "Mask value to ignore, for folder: and voc:; -1: none.",
        minimum=-1,
        maximum=255,
    )
    label_map: tuple[str, ...] | None = option(
        None,
        "Class of each mask value, for folder: and voc:, as VALUE:CLASS,VALUE:CLASS,...; 0:0,255:1 for "
        "black-and-white masks. Default: the values are the classes.",
        check=lambda pairs: bool(pairs) and all(_LABEL_PAIR.fullmatch(pair) for pair in pairs),
        must="be VALUE:CLASS,VALUE:CLASS,...",
    )
    resize: tuple[str, ...] | None = option(
        None,
        "Height,width in pixels to which all images and masks are scaled first. Default: not scaled.",
        check=lambda values: not values or is_image_shape(values),
        must="be height,width in pixels",
    )
    frozen: bool = option(False, "Train only a linear classifier, on the frozen backbone.")
    solver: str = option(
        "sgd",
        "Solver of the classifier of --frozen: sgd, on random crops; or lbfgs, multinomial logistic "
        "regression on the cells of all training images, which are held in memory.",
        choices=("sgd", "lbfgs"),
    )
    level: str = option("c5", "Feature map to classify.", choices=("c2", "c3", "c4", "c5"))
    crop_size: int = option(769, "Side of training crops and test windows in pixels.", above=0)
    window_stride: int = option(513, "Distance between test windows in pixels.", above=0)
    whole_images: bool = option(
        False,
        "Segment test images whole instead of in windows of --crop_size. For --frozen, or if the crops are "
        "about as large as the images: an FCN depends on the zero padding around its training crops. "
        "--solver=lbfgs always does.",
    )
    min_scale: float = option(0.5, "Smallest random scale of training images.", above=0)
    max_scale: float = option(2.0, "Largest random scale of training images.", above=0)
    align_corners: bool = option(
        False,
        "Upsample with aligned corners: the cells of the map are centered at every 16th pixel (or other "
        "stride) from the first one on, as in ResNets. For --crop_size=769, which is 48 * 16 + 1. Otherwise "
        "the map is upsampled as if it covered the image exactly, which shifts it by up to half a cell.",
    )
    color_jitter: bool = option(
        True, "Change brightness, contrast, saturation and hue of training crops at random."
    )
    workdir: str = with_default(FineTuningOptions, "workdir", "runs/segment")
    optimizer: str = with_default(FineTuningOptions, "optimizer", "sgd")
    base_learning_rate: float = with_default(FineTuningOptions, "base_learning_rate", 0.01)
    learning_rate_scaling: str = with_default(FineTuningOptions, "learning_rate_scaling", "none")
    weight_decay: float = with_default(FineTuningOptions, "weight_decay", 1e-4)
    warmup_epochs: float = with_default(FineTuningOptions, "warmup_epochs", 0.0)
    batch_size: int = with_default(FineTuningOptions, "batch_size", 16)
    output_stride: str = with_default(FineTuningOptions, "output_stride", "16")

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of `--resize`; None if images are not scaled."""
        if not self.resize:
            return None
        height, width = map(int, self.resize)
        return height, width


def check_training(options: SegmentOptions) -> None:
    """Checks for options that have no effect with `--frozen`, its solver or `--whole_images`.

    Raises:
        FlagError: naming the flags.
    """
    if options.solver == "lbfgs" and not options.frozen:
        raise FlagError("--solver=lbfgs: needs --frozen")
    unused: dict[str, str] = {}
    if options.frozen:
        unused["backbone_learning_rate_factor"] = "--frozen does not train the backbone"
        unused["bn_momentum"] = "--frozen changes no statistics of batch norm"
    if options.whole_images:
        unused["window_stride"] = "--whole_images has no windows"
    if options.solver == "lbfgs":
        unused |= dict.fromkeys(_SGD_ALONE, "--solver=lbfgs does not use it")
        if not options.whole_images:
            unused["whole_images"] = "--solver=lbfgs is fitted to whole images and tested on them"
    refuse_unused(options, unused, with_defaults=True)


def build_crop_config(options: SegmentOptions) -> CropConfig:
    """Returns the configuration of training crops.

    Raises:
        FlagError: naming the flags that cannot be used.
    """
    with flag_errors(options, "min_scale", "max_scale"):
        return CropConfig(
            options.crop_size,
            (options.min_scale, options.max_scale),
            options.seed,
            options.color_jitter,
        )


def check_sizes(options: SegmentOptions) -> None:
    """Checks that a network of one image size gets images of that size.

    Args:
        options: whose `backbone` is the network.

    Raises:
        FlagError: naming the flags of the sizes.
    """
    refuse_image_size(options, "--resize and --crop_size")
    side = backbones.fixed_image_size(options.backbone)
    if side is None:
        return
    takes_crops = options.solver != "lbfgs"
    is_resized = options.shape == (side, side)
    if (takes_crops and options.crop_size != side) or (options.whole_images and not is_resized):
        crops = [f"--crop_size={side}"] if takes_crops else []
        whole = [f"--resize={side},{side}"] if options.whole_images else []
        raise FlagError(
            f"--backbone={options.backbone}: takes images of {side} px only, so needs "
            + " and ".join(crops + whole)
        )


def resolve_test_split(options: SegmentOptions) -> SegmentOptions:
    """Returns options that name the test split."""
    if options.test_split:
        return options
    spec = options.test_dataset or options.dataset
    is_tfds = spec.startswith(("tfds:", "scenes"))
    return options.replace(test_split="validation" if is_tfds else "val")


def open_parts(options: SegmentOptions) -> tuple[MaskSource, MaskSource]:
    """Returns the training and the test images.

    Raises:
        FlagError: if they cannot be opened, or do not go together.
    """
    _check_named_splits(options)
    kind, _, path = options.dataset.partition(":")
    is_flat = kind == "folder" and is_flat_folder(path, options.train_split, options.test_split)
    if is_flat and not options.test_dataset:
        with flag_errors(options, "dataset", "val_fraction"):
            whole = open_masks(options.dataset, options.train_split, values=label_values(options))
            parts = random_split(options, whole.num_examples, options.dataset)
        train, test = (select(whole, part) for part in parts)
    else:
        train, test = _open_splits(options)
    warn_of_gaps((train, test), label_values(options).ignored)
    if options.shape is not None:
        train, test = resized(train, options.shape), resized(test, options.shape)
    return train, test


def draw_labeled(options: SegmentOptions, train: MaskSource) -> tuple[MaskSource, int]:
    """Returns the share `--label_fraction` of the training images, and their number.

    For a training in steps, fewer images than a batch are repeated; the number is that of different ones.

    Masks that cannot be decoded are not drawn.

    Raises:
        BrokenImagesError: if they are more than `--max_broken_share`.
        WrongValueError: if a mask has a value without a class.
    """
    if options.label_fraction == 1:
        return train, train.num_examples
    broken = BrokenImages(train, options.max_broken_share)
    presence = read_presence(train, broken)
    readable = np.setdiff1d(np.arange(train.num_examples), list(broken.names))
    chosen = stratified_images(presence[readable], options.label_fraction, options.seed)
    chosen = readable[chosen]
    num_train = len(chosen)
    if options.solver == "sgd":
        chosen = fill_batch(chosen, options.label_fraction, options.batch_size)
    return select(train, chosen), num_train


def _check_named_splits(options: SegmentOptions) -> None:
    """Checks that folders have the splits that the command line names.

    `open_masks` takes all images of a folder where a split is missing.
    """
    test_dataset = options.test_dataset or options.dataset
    for name, data in (("train_split", options.dataset), ("test_split", test_dataset)):
        kind, _, path = data.partition(":")
        split = getattr(options, name)
        folder = pathlib.Path(path).expanduser() / split / "images"
        is_named = name in options.on_command_line
        if is_named and kind == "folder" and not folder.is_dir():
            raise FlagError(f"--{name}={split}: {data} has no such split, there is no {folder}")


def _open_splits(options: SegmentOptions) -> tuple[MaskSource, MaskSource]:
    """Returns the images of the training and the test split."""
    refuse_fraction(options, f"--dataset={options.dataset}")
    test_flag = "test_dataset" if options.test_dataset else "dataset"
    test_spec: str = options.test_dataset or options.dataset
    values = label_values(options)
    with flag_errors(options, "dataset", "train_split"):
        train = open_masks(
            options.dataset, options.train_split, data_dir=options.data_dir, values=values
        )
    with flag_errors(options, test_flag, "test_split"):
        test = open_masks(test_spec, options.test_split, data_dir=options.data_dir, values=values)
        is_list = test_spec.startswith("voc:") and options.test_split != options.train_split
        if train.describe(0) == test.describe(0) and not is_list:
            raise ValueError("these are the training images")
        if test.class_names != train.class_names[: len(test.class_names)]:
            raise ValueError(_other_classes(train, test))
    warn_of_shared(train, test)
    return train, test


def _other_classes(train: MaskSource, test: MaskSource) -> str:
    """Reason why test images do not go with training images, and the way out."""
    if train.values and test.values:
        higher = [value for value in test.values if value > train.values[-1]]
        folders = dict.fromkeys(source.name.partition(":")[2] for source in (train, test))
        return (
            f"the test masks have the values {', '.join(map(str, higher))}, the training masks none above "
            f"{train.values[-1]}, so that their classes differ; list all classes in "
            f"{' and '.join(f'{folder}/classes.txt' for folder in folders)}, "
            f"or by --label_map={map_in_a_row(values_of((train, test)))}"
        )
    here, known = test.class_names, train.class_names
    return (
        f"other classes than the training images. Only here: {only_in(here, known)}; only in training: "
        f"{only_in(known, here)}"
    )


def label_values(options: SegmentOptions) -> LabelValues:
    """Returns the meaning of the values in masks.

    Raises:
        FlagError: if `--label_map` or `--ignore_value` cannot be used.
    """
    if options.label_map is None:
        return LabelValues(None if options.ignore_value < 0 else options.ignore_value)
    pairs = (pair.split(":") for pair in options.label_map)
    classes = {int(value): int(number) for value, number in pairs}
    if len(classes) < len(options.label_map):
        raise FlagError(f"--label_map={','.join(options.label_map)}: a value is listed twice")
    ignored: int | None = options.ignore_value
    if options.ignore_value < 0 or (
        options.ignore_value in classes and not options.is_given("ignore_value")
    ):
        ignored = None
    with flag_errors(options, "label_map", "ignore_value"):
        return LabelValues(ignored, classes)
