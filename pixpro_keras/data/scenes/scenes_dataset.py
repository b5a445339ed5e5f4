"""The embedded data set: textured scenes of overlapping objects, drawn here, never downloaded.

Importing this module registers `scenes` with TFDS:

    from pixpro_keras.data.scenes import scenes_dataset

    scenes_dataset.builder().as_dataset("train")  # Draws the set on first use.
    tfds.load("scenes", split="validation")  # The same, by TFDS's own means.

`composition` draws a scene from the materials in `drawing`.
"""

import contextlib
import io
import os
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from pixpro_keras.data.scenes import composition
from pixpro_keras.data.scenes.composition import CLASS_NAMES

SPLIT_SIZES = {"train": 2400, "validation": 600}


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Textured scenes of overlapping objects, drawn by the package: the TFDS data set `scenes`.

    Example:
        ```python
        from pixpro_keras.data.scenes import Scenes

        assert str(Scenes.VERSION) == "1.2.0"
        ```
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "First version.",
        "1.2.0": "Fewer: 2,400 and 600.",
        "1.1.0": "Muted colors; grounds that often go with the main object.",
    }

    def _info(self) -> tfds.core.DatasetInfo:
        label = tfds.features.ClassLabel(names=CLASS_NAMES)
        mask = tfds.features.Image(shape=(None, None, 1), encoding_format="png")
        return self.dataset_info_from_configs(
            description=(
                "Procedural scenes: one large object, smaller ones and clutter on a textured "
                "ground. Shape and texture tell an object's class, colors are random; about half "
                "of the grounds are the one typical of the main object. `label` is the class of "
                "the object with the largest visible area; `segmentation_mask` holds class + 1 of "
                "each pixel, 0 where there is no object; `instance_mask` holds the object's number "
                "in `objects` + 1. Boxes, areas and masks are of what is visible; hidden objects "
                "are left out."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": label,
                    "segmentation_mask": mask,
                    "instance_mask": mask,
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": label,
                            "area": np.int64,
                            "is_crowd": np.bool_,
                        }
                    ),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def download_and_prepare(self, **kwargs: Any) -> None:
        """Draws the data set unless it exists; of several processes, one draws and the others wait.

        TFDS writes to a temporary folder and renames it, which fails for a second process;
        and since it names that folder by Python's global random numbers, processes with the same
        seed even write into each other's.

        Args:
            **kwargs: arguments of TFDS's method.
        """
        with _locked(os.fspath(self.data_dir_root)):
            super().download_and_prepare(**kwargs)
            # Another process may have drawn the set meanwhile.
            self.info.read_from_directory(self.data_dir)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # Nothing is downloaded.
        logging.info(
            "building the embedded scenes (once, under a minute on two cores) in %s",
            self.data_dir_root,
        )
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, example in enumerate(_draw_in_parallel(split, SPLIT_SIZES[split])):
            for item in example["objects"]:
                item["bbox"] = tfds.features.BBox(**item["bbox"])
            yield index, example


def _draw_in_parallel(split: str, number: int) -> Iterator[dict[str, Any]]:
    """Yields the scenes of a split in order, drawn by one process per core.

    `multiprocessing` is not used, since its processes would import the main script of the caller again.
    """
    num_workers = min(os.cpu_count() or 1, 8)
    root = pathlib.Path(__file__).resolve().parents[3]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    with contextlib.ExitStack() as stack:
        pipes = []
        for first in range(num_workers):
            arguments = [split, str(first), str(number), str(num_workers)]
            worker = subprocess.Popen(
                [sys.executable, "-m", composition.__name__, *arguments],
                stdout=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": path},
            )
            stack.callback(worker.wait)
            stack.callback(worker.kill)  # If the caller stops early.
            pipes.append(stack.enter_context(cast(BinaryIO, worker.stdout)))
        for index in range(number):
            yield pickle.load(pipes[index % num_workers])


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Holds the folder's lock, which the system releases when a process dies.

    Remote folders, and systems without POSIX locks, are not locked.
    """
    if os.name != "posix" or "://" in folder:
        yield
        return
    import fcntl  # Absent elsewhere.

    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".scenes.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def builder(data_dir: str | None = None) -> tfds.core.DatasetBuilder:
    """Prepares the data set, drawn on first use without TFDS's prints and progress bars.

    Args:
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.

    Example:
        ```python
        from pixpro_keras.data.scenes import builder

        assert builder().info.splits["validation"].num_examples == 600
        ```
    """
    scenes = Scenes(data_dir=data_dir)
    # A prepared set may lie in a read-only folder, so it is not locked.
    if not scenes.is_prepared():
        silence = io.StringIO()
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            scenes.download_and_prepare()
    return scenes
