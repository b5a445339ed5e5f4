"""Features of labeled images from a frozen backbone: pooled, and of cells."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from pixpro_keras.data.decoding import decode
from pixpro_keras.data.sources import Source
from pixpro_keras.data.transforms.crops import crop_and_resize
from pixpro_keras.evaluation.replicas import over_replicas
from pixpro_keras.types import IGNORED, LABEL, Tensor
from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning

IMAGE = "image"
MASK = "mask"
INDEX = "index"


@dataclasses.dataclass(frozen=True)
class Features:
    """Features and labels of a data set.

    Attributes:
        pooled: `(N, C)` float32. Mean of each image's map.
        labels: `(N,)` int32.
        cells: `(M, C)` float32. Cells of the maps; M is 0 where there are no masks.
        cell_labels: `(M,)` int32, never 255.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.evaluation import Features

        labels = np.array([0, 1], "int32")
        features = Features(np.ones((2, 4)), labels, cells=np.zeros((0, 4)), cell_labels=labels[:0])
        ```
    """

    pooled: np.ndarray
    labels: np.ndarray
    cells: np.ndarray
    cell_labels: np.ndarray


def labeled_batches(
    builder: tfds.core.DatasetBuilder,
    split: str,
    image_size: int,
    preprocess: Callable[[Tensor], Tensor],
    batch_size: int,
) -> tf.data.Dataset:
    """Batches for evaluation, in a fixed order, without augmentation.

    Images are resized to a square without cropping, so that no part of an image or mask is lost.

    Args:
        builder: prepared TFDS builder, with the features `image` and `label`, and
            `segmentation_mask` (one class index per pixel, 255 is ignored) if it has masks.
        split: TFDS split, such as `"validation"` or `"train[:1000]"`.
        image_size: side of the square images in pixels.
        preprocess: the backbone's input convention, of RGB images in 0..255.
        batch_size: images per batch; the last batch may be smaller.

    Returns:
        Data set of `{"image": (B, S, S, 3) float32, "label": (B,) int32, "mask": (B, S, S) int32}`,
        without `mask` if the builder has no masks.

    Example:
        ```python
        import keras

        from pixpro_keras.data.scenes import scenes_dataset
        from pixpro_keras.evaluation import labeled_batches

        builder = scenes_dataset.builder()
        preprocess = keras.applications.resnet.preprocess_input
        batch = next(iter(labeled_batches(builder, "validation[:8]", 32, preprocess, 4)))
        print(batch["image"].shape, batch["label"].shape, batch["mask"].shape)
        ```
    """
    has_masks = "segmentation_mask" in builder.info.features
    size = (image_size, image_size)

    def prepare(example):
        # Without antialiasing, only a few pixels of a large photograph would be used.
        image = tf.image.resize(example["image"], size, method="bilinear", antialias=True)
        result = {
            IMAGE: tf.ensure_shape(preprocess(image), (*size, 3)),
            LABEL: tf.cast(example["label"], tf.int32),
        }
        if has_masks:
            mask = tf.image.resize(example["segmentation_mask"], size, method="nearest")
            result[MASK] = tf.cast(tf.ensure_shape(mask, (*size, 1))[..., 0], tf.int32)
        return result

    # The order of a split read without shuffling is fixed, and so are the cells drawn from it.
    dataset = builder.as_dataset(split=split, shuffle_files=False)
    dataset = without_autotuning(dataset).map(prepare, num_parallel_calls=NUM_THREADS)
    return dataset.batch(batch_size).prefetch(2)


def image_batches(
    source: Source,
    image_size: int,
    preprocess: Callable[[Tensor], Tensor],
    batch_size: int,
    pass_over_broken: bool = False,
) -> tf.data.Dataset:
    """Batches of a source's images in their order; the last batch may be smaller.

    The central square of 7/8 of the short side is resized: the same region as after resizing to 256
    px and cropping the central 224 px.

    Args:
        source: labeled images.
        image_size: side of the square images in pixels.
        preprocess: the backbone's input convention, of RGB images in 0..255.
        batch_size: images per batch.
        pass_over_broken: whether to skip images that cannot be decoded, whose numbers are then
            missing in the entry `index`.

    Returns:
        Data set of `{"image": (B, S, S, 3) float32, "label": (B,) int32, "index": (B,) int64}`.

    Example:
        ```python
        import numpy as np
        import tensorflow as tf

        from pixpro_keras.data.sources import Source
        from pixpro_keras.evaluation import image_batches

        png = tf.io.encode_png(np.zeros((40, 60, 3), "uint8"))
        source = Source("black", 5, lambda index: {"image": png, "label": 0}, str)
        batch = next(iter(image_batches(source, 32, lambda image: image / 127.5 - 1, 4)))
        print(batch["image"].shape)  # (4, 32, 32, 3)
        ```
    """

    def prepare(index: Tensor) -> dict[str, Tensor]:
        example = source.read(index)
        image = decode(example["image"])
        shape = tf.shape(image)
        side = tf.maximum(tf.minimum(shape[0], shape[1]) * 7 // 8, 1)
        box = ((shape[0] - side) // 2, (shape[1] - side) // 2, side, side)
        image, _ = crop_and_resize(image, box, image_size)
        return {IMAGE: preprocess(image), LABEL: example["label"], INDEX: index}

    data = without_autotuning(tf.data.Dataset.range(source.num_examples))
    data = data.map(prepare, num_parallel_calls=NUM_THREADS, deterministic=True)
    if pass_over_broken:
        data = data.ignore_errors()
    return data.batch(batch_size).prefetch(2)


def extract_features(
    backbone: keras.Model,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    cells_per_image: int = 8,
    seed: int = 0,
    strategy: tf.distribute.Strategy | None = None,
) -> Features:
    """Runs a backbone once over a data set, in inference mode.

    Args:
        backbone: `(B, H, W, 3) -> (B, h, w, C)`, of any dtype policy.
        batches: dicts as from `labeled_batches`.
        cells_per_image: largest number of labeled cells that are kept of each image, drawn at
            random; 0 for none. Ignored where the batches have no `mask`.
        seed: seed of the random choice, which is the same for every backbone and batch size.
        strategy: strategy whose replicas on this machine share each batch; None is the current one.

    Returns:
        Pooled and cell features with their labels, in the order of the data.

    Raises:
        ValueError: if `batches` is empty, a batch has no image or label, or the backbone does not return
            a map.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.evaluation import extract_features

        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        batch = {"image": np.zeros((2, 16, 16, 3), "float32"), "label": np.array([0, 1])}
        print(extract_features(backbone, [batch]).pooled.shape)  # (2, 4)
        ```
    """
    rng = np.random.default_rng(seed)
    pooled, labels, cells, cell_classes = [], [], [], []

    def run(images: Tensor) -> Tensor:
        return frozen_map(backbone, images)

    def pool(images: Tensor) -> Tensor:
        return keras.ops.mean(run(images), axis=(1, 2))

    spread: Callable[[Tensor], np.ndarray] | None = None
    for batch in batches:
        if not isinstance(batch, Mapping) or not {IMAGE, LABEL} <= batch.keys():
            found = ", ".join(batch) if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
            raise ValueError(
                f"`batches` must be dicts with the keys {IMAGE} and {LABEL}. Received: {found}."
            )
        has_cells = MASK in batch and cells_per_image > 0
        if spread is None:  # Whole maps are copied from the accelerator only if cells are needed.
            spread = over_replicas(run if has_cells else pool, strategy=strategy)
        features = spread(batch[IMAGE])
        labels.append(np.asarray(batch[LABEL], "int32"))
        pooled.append(features.mean(axis=(1, 2)) if has_cells else features)
        if has_cells:
            classes = cell_labels(np.asarray(batch[MASK]), features.shape[1:3])
            chosen = _choose(classes, cells_per_image, rng)
            cells.append(features[chosen])
            cell_classes.append(classes[chosen])
    if not pooled:
        raise ValueError("`batches` must hold at least one batch. Received none.")
    return Features(
        pooled=np.concatenate(pooled),
        labels=np.concatenate(labels),
        cells=np.concatenate(cells or [pooled[0][:0]]),
        cell_labels=np.concatenate(cell_classes or [labels[0][:0]]),
    )


def frozen_map(backbone: keras.Model, images: Tensor) -> Tensor:
    """Map of a backbone in inference mode, `(B, h, w, C)` float32.

    Args:
        backbone: of any dtype policy.
        images: `(B, H, W, 3)`, preprocessed.

    Raises:
        ValueError: if the backbone does not return a map.

    Example:
        ```python
        import keras

        from pixpro_keras.evaluation.features import frozen_map

        backbone = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, 4)])
        print(frozen_map(backbone, keras.ops.zeros((2, 16, 16, 3))).shape)  # (2, 4, 4, 4)
        ```
    """
    maps = backbone(images, training=False)
    require_map(keras.tree.map_structure(lambda x: tuple(x.shape), maps))
    return keras.ops.cast(maps, "float32")


def require_map(shape: object) -> None:
    """Raises a ValueError unless a shape is that of one map.

    Args:
        shape: of a backbone's outputs; with several outputs, their structure.

    Example:
        ```python
        from pixpro_keras.evaluation.features import require_map

        require_map((None, 4, 4, 8))
        ```
    """
    if not isinstance(shape, tuple) or len(shape) != 4 or isinstance(shape[0], tuple):
        raise ValueError(f"`backbone` must return a map (B, h, w, C). Received: {shape}.")


def cell_labels(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Commonest class in each cell of a feature map laid on the mask.

    A pixel belongs to the cell that holds its center. Pixels of class 255 do not count; among
    equally common classes the lowest wins.

    Args:
        masks: `(B, H, W)` class indices in 0..255.
        size: height and width `(h, w)` of the feature map.

    Returns:
        `(B, h, w)` int32; 255 where all pixels of the cell are ignored.
    """
    batch, height, width = masks.shape
    rows = (2 * np.arange(height) + 1) * size[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * size[1] // (2 * width)
    images = np.arange(batch)[:, None, None]
    cells = (images * size[0] + rows[:, None]) * size[1] + columns  # (B, H, W)
    counted = masks != IGNORED
    num_cells = batch * size[0] * size[1]
    num_classes = int(masks[counted].max(initial=0)) + 1
    counts = np.bincount(
        cells[counted] * num_classes + masks[counted], minlength=num_cells * num_classes
    ).reshape(num_cells, num_classes)
    labels = np.where(counts.any(axis=1), counts.argmax(axis=1), IGNORED)
    return labels.reshape(batch, *size).astype("int32")


def _choose(classes: np.ndarray, cells_per_image: int, rng: np.random.Generator) -> np.ndarray:
    """Selects at most `cells_per_image` labeled cells of each image: a mask `(B, h, w)`."""
    flat = classes.reshape(len(classes), -1)
    draws = rng.random(flat.shape)
    draws[flat == IGNORED] = np.inf
    ranks = draws.argsort(axis=1).argsort(axis=1)
    return ((ranks < cells_per_image) & (flat != IGNORED)).reshape(classes.shape)
