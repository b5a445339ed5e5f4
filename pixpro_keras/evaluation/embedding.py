"""Feature vectors of images, for search, clustering and classifiers."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping

import keras
import numpy as np

from pixpro_keras import backbones
from pixpro_keras.backbones.names import require_scaling
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.sources import open_source
from pixpro_keras.evaluation.features import INDEX, extract_features, image_batches
from pixpro_keras.types import Tensor
from pixpro_keras.utils.checks import in_range, positive
from pixpro_keras.weights.load import keras_file, load_backbone


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Feature vectors of the images of a data set, in its order.

    Attributes:
        vectors: `(N, C)` float32. Mean of each image's last feature map.
        names: path of each image, or file and record.
        labels: `(N,)` int32. Class of each image, -1 where there is none.
        class_names: names of the labels, where they are known.
    """

    vectors: np.ndarray
    names: list[str]
    labels: np.ndarray
    class_names: tuple[str, ...] | None


def embed(
    dataset: str | os.PathLike,
    weights: str | os.PathLike | keras.Model,
    *,
    backbone: str | None = None,
    image_size: int = 224,
    batch_size: int = 64,
    data_dir: str | None = None,
    max_broken_share: float = 0.01,
) -> Embeddings:
    """Computes feature vectors of images with a frozen backbone.

    The central square of 7/8 of an image's short side is scaled to `image_size`.

    Args:
        dataset: images: `folder:PATH`, `tfds:NAME`, `tfrecord:GLOB`, `scenes`, or several with `+`
            between; a path object is a folder.
        weights: folder of a run, a weights file as for `load_backbone`, or a backbone.
        backbone: name of the network, or path of its `.keras` file, if neither the file nor the model
            states it.
        image_size: side of the square images in pixels.
        batch_size: images that go through the backbone together.
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.
        max_broken_share: largest share of images that cannot be decoded, in [0, 1]; the log names them. A
            single one is always allowed, unless this is 0.

    Returns:
        Vectors, names and labels of all images that can be decoded.

    Raises:
        ValueError: if images or weights cannot be opened, or the network is not known or returns no map.
        BrokenImagesError: if more images cannot be decoded.

    Example:
        ```python
        import pixpro_keras

        network = pixpro_keras.backbones.build("resnet18_v1_5")
        embeddings = pixpro_keras.embed("folder:photos", network, image_size=64)
        assert embeddings.vectors.shape == (8, 512)
        ```
    """
    positive("image_size", image_size)
    positive("batch_size", batch_size)
    in_range("max_broken_share", max_broken_share, 0, 1)
    source = open_source(dataset, data_dir=data_dir)
    if isinstance(weights, keras.Model):
        network = weights
        require_scaling(network)
    else:
        network = load_backbone(pathlib.Path(weights).expanduser(), name=backbone)
    name = backbone or backbones.name_of(network)
    if name is None and not isinstance(weights, keras.Model):
        name = keras_file(weights)
    if name is None:
        raise ValueError(
            f"The network is called {network.name!r}; `backbone` must tell which one of "
            "`pixpro_keras.backbones.available()` it is, or be the path of its .keras file, whose layers "
            f"tell the input convention. Received: backbone={backbone!r}."
        )
    if backbones.fixed_image_size(name) not in (None, image_size):
        side = backbones.fixed_image_size(name)
        raise ValueError(f"`image_size` must be {side} for {name}. Received: {image_size}.")
    if image_size < (smallest := backbones.min_image_size(name)):
        raise ValueError(
            f"`image_size` must be at least {smallest} for {name}. Received: {image_size}."
        )
    batches = image_batches(
        source, image_size, backbones.preprocess_input(name), batch_size, pass_over_broken=True
    )
    indices: list[int] = []

    def read(batch: Mapping[str, Tensor]) -> np.ndarray:
        indices.extend(found := batch[INDEX].numpy())
        return found

    features = extract_features(
        network, BrokenImages(source, max_broken_share).watch(batches, read)
    )
    names = [source.describe(int(index)) for index in indices]
    return Embeddings(features.pooled, names, features.labels, source.class_names)
