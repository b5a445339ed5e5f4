"""Common parts of the readers of annotation files: their errors, and the images that they name."""

import contextlib
import os
import pathlib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from pixpro_keras.detection.box_source import BoxSource, Objects
from pixpro_keras.types import Tensor


@contextlib.contextmanager
def naming_file(path: pathlib.Path) -> Iterator[None]:
    """Puts the file's name before any error in its content.

    Args:
        path: path of the annotation file that is read meanwhile.

    Raises:
        ValueError: for whatever is raised inside.
    """
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: there is no {error}") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError) as error:
        raise ValueError(f"{path} is not laid out as it should be: {error}") from error


def source_of_files(
    specification: str,
    paths: Sequence[pathlib.Path],
    sizes: Sequence[tuple[int, int]],
    objects: Sequence[Objects],
    class_names: Sequence[str],
    image_ids: Sequence[int | str],
    class_ids: Sequence[int],
    metric: str,
) -> BoxSource:
    """Makes a source of image files and their objects.

    Args:
        specification: name of the source.
        paths: path of each image.
        sizes: height and width of each image.
        objects: objects of each image.
        class_names: names of the classes 0, 1, ...
        image_ids: the data set's own name of each image.
        class_ids: the data set's own number of each class.
        metric: metric by which the data set is judged.

    Raises:
        ValueError: if there is no image, or one is missing.
    """
    if not paths:
        raise ValueError(f"{specification} holds no image of this split")
    for path in paths:
        if not os.path.exists(path):
            raise ValueError(f"the image {path} is missing")
    all_paths = [str(path) for path in paths]

    def read(index: Tensor) -> Tensor:
        return tf.io.read_file(tf.constant(all_paths)[index])

    return BoxSource(
        specification,
        read,
        all_paths.__getitem__,
        np.array(sizes, np.int32),
        objects,
        tuple(class_names),
        image_ids,
        class_ids,
        metric,
    )
