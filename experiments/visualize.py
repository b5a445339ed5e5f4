"""Pictures of what a backbone has learned, and the curves of several runs in one.

    python experiments/visualize.py --weights=runs/mine --dataset=folder:PATH --image_size=224
    python experiments/visualize.py --pictures=curves --runs=runs/one,runs/other

Writes to `--workdir`: `similarity.png`, what is similar to a few places of each image; `pca.png`, features as
colours, beside those of random weights; `retrieval.png`, the most similar places in other images;
`click_map.html`, a page on which a click shows what is similar; `curves.png`, the scalars of `--runs`.
"""

import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import backbone_flags
import common_flags
import eval_flags
import keras
import labelled
import numpy as np
from absl import flags
from common_flags import FLAGS, FlagError, blame

from pixpro_keras.backbones.levels import level_network
from pixpro_keras.data.labels import select
from pixpro_keras.data.sources import Source, open_source
from pixpro_keras.evaluation.features import IMAGE, image_batches
from pixpro_keras.visualize.click_map import write_click_map
from pixpro_keras.visualize.correspondences import to_display
from pixpro_keras.visualize.dense_pca import draw_pca
from pixpro_keras.visualize.figures import save_figure
from pixpro_keras.visualize.plots import draw_metrics, read_metrics
from pixpro_keras.visualize.retrieval import draw_retrieval
from pixpro_keras.visualize.similarity import draw_similarity

_OF_FEATURES = ("similarity", "pca", "retrieval", "click_map")
_PICTURES = (*_OF_FEATURES, "curves")

flags.DEFINE_list("pictures", list(_OF_FEATURES), f"Which pictures: {', '.join(_PICTURES)}.")
flags.DEFINE_string("dataset", None, "Images to look at: any source of pretrain.py, unlabelled.")
flags.DEFINE_integer("num_images", 6, "Images that are drawn, spread over the data set.", 2, 100)
flags.DEFINE_enum("level", "c5", ["c2", "c3", "c4", "c5"], "Map whose cells are compared.")
flags.DEFINE_list(
    "places",
    ["0.5:0.5", "0.2:0.25", "0.8:0.75"],
    "Places that are asked for, `x:y` as shares of the image from its upper left corner.",
)
flags.DEFINE_list("runs", [], "Folders of pre-trainings, for curves.")
flags.FLAGS.set_default("workdir", "runs/pictures")


def main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    unknown = set(FLAGS.pictures) - set(_PICTURES)
    if unknown or not FLAGS.pictures:
        raise FlagError(f"--pictures={','.join(FLAGS.pictures)}: take {', '.join(_PICTURES)}")
    workdir = common_flags.prepare_workdir()
    if "curves" in FLAGS.pictures:
        draw_curves(workdir)
    if set(FLAGS.pictures) & set(_OF_FEATURES):
        draw_features(workdir)
    common_flags.write_flags(workdir)
    print("\n".join(str(workdir / _file(name)) for name in FLAGS.pictures))
    return 0


def _file(picture: str) -> str:
    return f"{picture}.html" if picture == "click_map" else f"{picture}.png"


def draw_curves(workdir: pathlib.Path) -> None:
    """The scalars of all runs, with the bounds of the loss where all of them have the same.

    Raises:
        FlagError: if there is no run, or one has no metrics.
    """
    if not FLAGS.runs:
        raise FlagError("--runs must be given for curves")
    folders = [pathlib.Path(run).expanduser() for run in FLAGS.runs]
    with blame("runs"):
        runs = {
            str(run): read_metrics(folder / "metrics.jsonl")
            for run, folder in zip(FLAGS.runs, folders, strict=True)
        }
        files = [folder / "loss_bounds.json" for folder in folders]
        bounds = [json.loads(file.read_text()) if file.exists() else {} for file in files]
    shared = bounds[0] if all(one == bounds[0] for one in bounds) else {}
    save_figure(draw_metrics(runs, shared), workdir / _file("curves"))


def draw_features(workdir: pathlib.Path) -> None:
    """The pictures of a backbone's features.

    Raises:
        FlagError: if the images or the backbone cannot be had.
    """
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.dataset is None:
        raise FlagError("--dataset must be given")
    with blame("dataset"):
        source, names = _spread(open_source(FLAGS.dataset, data_dir=FLAGS.data_dir))
    backbone, preprocess, label = eval_flags.load_backbone()
    with labelled.blame_images(source.name):
        batches = image_batches(source, FLAGS.image_size, preprocess, source.num_examples)
        inputs = next(iter(batches))[IMAGE]
    images = to_display(inputs, preprocess)

    def maps(network: keras.Model) -> np.ndarray:
        with blame("level"):
            network = level_network(network, FLAGS.level)
        return np.asarray(network.predict(inputs, batch_size=8, verbose=0), np.float32)

    features = maps(backbone)
    cells = _cells(features.shape[1:3])
    for picture in set(FLAGS.pictures) & set(_OF_FEATURES):
        path = workdir / _file(picture)
        if picture == "similarity":
            save_figure(draw_similarity(images, features, cells, gamma=1.0), path)
        elif picture == "pca":
            both = {label: features}
            if FLAGS.weights is not None:
                both = {"random weights": maps(backbone_flags.build_backbone())} | both
            save_figure(draw_pca(images, both), path)
        elif picture == "retrieval":
            queries = [(index, *cells[0]) for index in range(len(images))]
            save_figure(draw_retrieval(images, features, queries), path)
        else:
            write_click_map(path, images, names, features, label)


def _spread(source: Source) -> tuple[Source, list[str]]:
    """A few images from all over a source, and their names."""
    if source.num_examples < 2:
        raise ValueError("two images or more are needed")
    count = min(FLAGS.num_images, source.num_examples)
    indices = np.linspace(0, source.num_examples - 1, count).round().astype(np.int64)
    names = [os.path.basename(source.describe(int(index))) for index in indices]
    return select(source, indices), names


def _cells(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Row and column of each of `--places`."""
    cells = []
    with blame("places"):
        for place in FLAGS.places:
            x, y = (float(share) for share in place.split(":"))
            if not (0 <= x <= 1 and 0 <= y <= 1):
                raise ValueError(f"{place} is outside: shares are from 0 to 1")
            row, column = (min(int(s * n), n - 1) for s, n in zip((y, x), size, strict=True))
            cells.append((row, column))
        if not cells:
            raise ValueError("give at least one")
    return cells


if __name__ == "__main__":
    common_flags.run(main)
