"""Pictures of a backbone's features, and the training curves of several runs.

    pixpro-visualize --weights=runs/mine --dataset=folder:PATH --image_size=224
    pixpro-visualize --pictures=curves --runs=runs/one,runs/other

Writes to `--workdir`: `correspondences.png`, the cells of two views that show the same place;
`similarity.png`, what is similar to a few places of each image, and `similarity_ppm.png`, the same by the
pixel propagation module of a run; `pca.png`, features as colors, beside those of random weights;
`retrieval.png`, the most similar places in other images; `click_map.html`, a page on which a click shows what
is similar; `curves.png`, the scalars of `--runs`.

Views are those of the run at `--weights`, with its own flags, or else as this command's flags make them.
"""

import dataclasses
import json
import os
import pathlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.backbones.levels import level_network
from pixpro_keras.cli.options.backbone_options import build_backbone
from pixpro_keras.cli.options.evaluation_options import EvaluationOptions, read_backbone
from pixpro_keras.cli.options.flag_errors import flag_errors, refuse_unused
from pixpro_keras.cli.options.image_errors import image_errors
from pixpro_keras.cli.options.method_options import ModelOptions
from pixpro_keras.cli.options.option_fields import (
    FlagError,
    option,
    with_default,
    without_effect,
)
from pixpro_keras.cli.options.parsing import write_flags
from pixpro_keras.cli.options.run_options import resolve_precision
from pixpro_keras.cli.options.view_options import data_config
from pixpro_keras.cli.shared import command, stored_run
from pixpro_keras.data import pipeline
from pixpro_keras.data.broken_images import BrokenImages, read_error
from pixpro_keras.data.decoding import decode
from pixpro_keras.data.labels import select
from pixpro_keras.data.sources import Source, open_source
from pixpro_keras.data.transforms import recipes
from pixpro_keras.evaluation.features import IMAGE, image_batches
from pixpro_keras.evaluation.precise_bn import apply_precise_bn
from pixpro_keras.types import COORD1, COORD2, VIEW1, VIEW2
from pixpro_keras.utils.metrics_file import METRICS_FILE, read_metrics
from pixpro_keras.visualize.click_map import write_click_map
from pixpro_keras.visualize.correspondences import draw_correspondences, to_display
from pixpro_keras.visualize.dense_pca import draw_pca
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.visualize.plots import draw_metrics
from pixpro_keras.visualize.retrieval import draw_retrieval
from pixpro_keras.visualize.similarity import draw_similarity, map_to_show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OF_FEATURES = ("similarity", "pca", "retrieval", "click_map")
_OF_IMAGES = ("correspondences", *_OF_FEATURES)
_PICTURES = (*_OF_IMAGES, "curves")
_NUM_VIEW_PAIRS = 4


def _are_places(values: tuple[str, ...]) -> bool:
    """True for one or more `x:y` of two fractions each."""
    try:
        places = [(float(x), float(y)) for x, y in (value.split(":") for value in values)]
    except ValueError:
        return False
    return bool(places) and all(0 <= share <= 1 for place in places for share in place)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VisualizeOptions(EvaluationOptions, ModelOptions):
    """Options of the pictures."""

    pictures: tuple[str, ...] = option(_OF_IMAGES, f"Pictures to draw: {', '.join(_PICTURES)}.")
    dataset: str | None = option(
        None, "Images to draw, from any source of pixpro-pretrain; labels are not used."
    )
    num_images: int = option(
        6, "Number of images to draw, spread over the data set.", minimum=2, maximum=100
    )
    gallery_size: int = option(
        60, "Number of images that retrieval searches, spread over the data set.", minimum=2
    )
    level: str = option(
        "c5", "Feature map whose cells are compared.", choices=("c2", "c3", "c4", "c5")
    )
    places: tuple[str, ...] = option(
        ("0.5:0.5", "0.2:0.25", "0.8:0.75"),
        "Query cells, `x:y` as fractions of the image from its upper left corner; in retrieval each image"
        " uses one of them, in turn.",
        check=_are_places,
        must="be cells x:y, of two fractions in 0..1 each, such as 0.5:0.5",
    )
    runs: tuple[str, ...] = option((), "Folders of the pre-trainings to plot as curves.")
    workdir: str = with_default(ModelOptions, "workdir", "runs/pictures")
    label_fraction: float = without_effect(
        EvaluationOptions, "label_fraction", "labels are not used"
    )


def run(options: VisualizeOptions) -> None:
    """Draws the pictures."""
    unknown = set(options.pictures) - set(_PICTURES)
    if unknown or not options.pictures:
        raise FlagError(f"--pictures={','.join(options.pictures)}: take {', '.join(_PICTURES)}")
    refuse_unused(options)
    options = resolve_precision(options)
    keras.mixed_precision.set_global_policy(options.precision)
    with command.prepare_workdir(options, options.workdir) as workdir:
        if "curves" in options.pictures:
            draw_curves(options, workdir)
        if set(options.pictures) & set(_OF_IMAGES):
            options = draw_images(options, workdir)
        write_flags(options, workdir)


def draw_curves(options: VisualizeOptions, workdir: pathlib.Path) -> None:
    """Draws the scalars of all runs, with the bounds of their losses.

    Raises:
        FlagError: if there is no run, or one has no metrics.
    """
    if not options.runs:
        raise FlagError("--runs must be given for curves")
    runs, bounds = {}, {}
    with flag_errors(options, "runs"):
        for run in options.runs:
            folder = pathlib.Path(run).expanduser()
            runs[run] = read_metrics(folder / METRICS_FILE)
            if not runs[run]:
                raise ValueError(f"{folder / METRICS_FILE} has no finished line")
            if (folder / "loss_bounds.json").exists():
                bounds[run] = json.loads((folder / "loss_bounds.json").read_text())
        figure = draw_metrics(runs, bounds)
    _save(figure, workdir / "curves.png")


def draw_images(options: VisualizeOptions, workdir: pathlib.Path) -> VisualizeOptions:
    """Draws the pictures of a backbone and its images; returns options that name the backbone.

    Raises:
        FlagError: if the images or the backbone cannot be loaded.
    """
    keras.utils.set_random_seed(options.seed)
    dataset = options.dataset
    if dataset is None:
        raise FlagError("--dataset must be given")
    folder = stored_run.run_folder(options.weights)
    evaluated, options = read_backbone(options)
    preprocess, label = evaluated.preprocess, evaluated.label
    gallery_size = options.gallery_size if "retrieval" in options.pictures else 0
    with flag_errors(options, "dataset"):
        source = open_source(dataset, data_dir=options.data_dir)
        source = spread(source, max(options.num_images, gallery_size), options.max_broken_share)
    shown = source.spread_indices(options.num_images)
    if "correspondences" in options.pictures:
        with image_errors(source):
            draw_views(options, workdir, select(source, shown[:_NUM_VIEW_PAIRS]), folder)
    if not set(options.pictures) & set(_OF_FEATURES):
        return options
    with image_errors(source):
        batches = image_batches(source, options.image_size, preprocess, source.num_examples)
        gallery = next(iter(batches))[IMAGE].numpy()
    gallery_images = to_display(gallery, preprocess)
    with flag_errors(options, "level"):
        network = level_network(evaluated.network, options.level)
    if options.has_random_weights:
        # With the initial statistics all features are nearly the same.
        apply_precise_bn(network, [gallery[shown]])
    gallery_features = _predict(network, gallery)
    inputs, images, features = gallery[shown], gallery_images[shown], gallery_features[shown]
    cells = _cells(options, features.shape[1:3])
    if "similarity" in options.pictures:
        figure = draw_similarity(images, features, cells, gamma=1.0)
        _save(figure, workdir / "similarity.png", f"Cosine of features, {label}")
        if folder is not None:
            draw_propagation(options, workdir, folder, images, inputs)
    if "pca" in options.pictures:
        maps = {label: features}
        if not options.has_random_weights:
            untrained = level_network(build_backbone(options), options.level)
            apply_precise_bn(untrained, [inputs])
            maps = {"random weights": _predict(untrained, inputs)} | maps
        _save(draw_pca(images, maps), workdir / "pca.png")
    if "retrieval" in options.pictures:
        queries = [(int(i), *cells[n % len(cells)]) for n, i in enumerate(shown)]
        figure = draw_retrieval(gallery_images, gallery_features, queries)
        title = f"Most similar cells in {len(gallery)} images, {label}"
        _save(figure, workdir / "retrieval.png", title)
    if "click_map" in options.pictures:
        names = [os.path.basename(source.describe(int(index))) for index in shown]
        write_click_map(workdir / "click_map.html", images, names, features, label)
        print(workdir / "click_map.html")
    return options


def draw_views(
    options: VisualizeOptions, workdir: pathlib.Path, source: Source, run: pathlib.Path | None
) -> None:
    """Draws the two views of images as a run sees them, and their cells that show the same place.

    Args:
        options: options of this command.
        workdir: folder of the picture.
        source: the images.
        run: folder of a run whose options are used; None: this command's.

    Raises:
        FlagError: if the augmentation moves pixels in ways that the coordinates do not follow.
    """
    viewed = options if run is None else stored_run.read_options(run)
    if recipes.moves_pixels(viewed.augmentation):
        raise FlagError(
            f"--augmentation={viewed.augmentation}: it moves pixels, so that there are no "
            "correspondences to draw; --pictures chooses others"
        )
    config = data_config(viewed, use_xla=False)
    shape = (1, config.image_size, config.image_size, 3)
    # A map with a pixel loss, as in the pictures of a run.
    level = "c4" if viewed.fpn else viewed.pixel_levels[0]
    size = level_network(build_backbone(viewed), level).compute_output_shape(shape)[1:3]
    threshold = viewed.threshold
    pairs = []
    for index in range(source.num_examples):
        image = decode(source.read(tf.constant(index, tf.int64))["image"])
        pairs.append(pipeline.make_views(image, tf.constant([config.seed, index]), config))
    batch = {name: np.stack([pair[name] for pair in pairs]) for name in pairs[0]}
    view1, view2 = (to_display(batch[name], lambda colors: colors) for name in (VIEW1, VIEW2))
    figure = draw_correspondences(view1, view2, batch[COORD1], batch[COORD2], size, threshold)
    title = (
        f"Cells of two views that show the same place: {config.recipe}, {config.image_size} px, distance "
        f"up to {threshold:g} cell diagonals"
    )
    _save(figure, workdir / "correspondences.png", title)


def draw_propagation(
    options: VisualizeOptions,
    workdir: pathlib.Path,
    run: pathlib.Path,
    images: np.ndarray,
    inputs: np.ndarray,
) -> None:
    """Draws the similarities in the pixel propagation module of a run, if it has one.

    Args:
        options: options of this command.
        workdir: folder of the picture.
        run: folder of the run.
        images: `(B, H, W, 3)` uint8 RGB.
        inputs: the same as the backbone takes them.
    """
    method = stored_run.load_method(run, options.output_stride)
    propagation = getattr(method, "propagation", None)
    if method is None or propagation is None:
        return
    with flag_errors(options, "image_size"):
        projections = map_to_show(_predict(method.encoder, inputs))
    cells = _cells(options, projections.shape[1:3])
    figure = draw_similarity(images, projections, cells, propagation.gamma)
    _save(figure, workdir / "similarity_ppm.png", f"Weights in the propagation module, {run}")


def _predict(network: keras.Model, inputs: np.ndarray) -> Any:
    """Computes the float32 outputs of a network for images."""
    outputs = network.predict(inputs, batch_size=8, verbose=0)
    return keras.tree.map_structure(lambda x: np.asarray(x, np.float32), outputs)


def _save(figure: "Figure", path: pathlib.Path, title: str | None = None) -> None:
    if title is not None:
        figure.suptitle(title, fontsize=11)
    save_figure(figure, path)
    print(path)


def spread(source: Source, count: int, max_broken_share: float) -> Source:
    """Selects a few images spread over a source, without those that cannot be decoded.

    Args:
        source: the images.
        count: largest number of images.
        max_broken_share: largest share of them that may be broken, in [0, 1].

    Raises:
        BrokenImagesError: if more of them cannot be decoded.
        ValueError: if fewer than two are left.
    """
    chosen = select(source, source.spread_indices(count))
    broken = BrokenImages(chosen, max_broken_share)
    for index in range(chosen.num_examples):
        if read_error(chosen, index):
            broken.report(index, is_last=False)
    broken.check()
    readable = [index for index in range(chosen.num_examples) if index not in broken.names]
    if len(readable) < 2:
        raise ValueError("two images or more are needed")
    return select(chosen, readable)


def _cells(options: VisualizeOptions, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Parses `--places` into rows and columns."""
    cells = []
    for place in options.places:
        x, y = (float(share) for share in place.split(":"))
        row, column = (min(int(s * n), n - 1) for s, n in zip((y, x), size, strict=True))
        cells.append((row, column))
    return cells


def main() -> None:
    """Runs the command."""
    command.run(VisualizeOptions, run, __doc__ or "")
