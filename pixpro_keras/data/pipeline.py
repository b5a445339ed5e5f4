"""From a source to batches: two views per image, in an order that only seed and step decide."""

import dataclasses
import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from absl import logging

from pixpro_keras.batch import COORD1, COORD2, LABEL, VIEW1, VIEW2, Batch, Tensor
from pixpro_keras.data import crops, recipes
from pixpro_keras.data.sources import Source

# An unreadable image gives its place to another one, drawn at random; after so many the run stops.
_CANDIDATES = 8


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How views are made.

    Attributes:
        image_size: side of the square views in pixels.
        recipe: a key of `recipes.RECIPES`.
        crop_area: smallest and largest crop, as shares of the image's area.
        seed: of order and augmentation.
        max_broken_share: share of a source's images that may be unreadable.
        num_parallel_calls: threads that decode and augment; None lets tf.data decide.
    """

    image_size: int
    recipe: str = "byol"
    crop_area: tuple[float, float] = (0.08, 1.0)
    seed: int = 0
    max_broken_share: float = 0.01
    num_parallel_calls: int | None = None

    def __post_init__(self):
        """Refuses what cannot work."""
        if self.image_size < 1:
            raise ValueError(f"`image_size` must be positive. Received: {self.image_size}.")
        if self.recipe not in recipes.RECIPES:
            raise ValueError(
                f"`recipe` must be one of {', '.join(recipes.RECIPES)}. Received: {self.recipe!r}."
            )
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(
                f"`crop_area` must be an interval in (0, 1]. Received: {self.crop_area}."
            )


class BrokenImagesError(RuntimeError):
    """Too many images of a source cannot be decoded."""


class BrokenImages:
    """Keeps count of images that cannot be decoded, and names each once in the log.

    Args:
        source: where they come from.
        max_share: share of the source's images above which `check` raises.
    """

    def __init__(self, source: Source, max_share: float):
        self._source = source
        self._max_share = max_share
        self._lock = threading.Lock()
        self._is_hopeless = False
        self.names: dict[int, str] = {}

    def report(self, indices: np.ndarray) -> None:
        """Notes the images that one place in a batch has tried in vain."""
        with self._lock:
            self._is_hopeless |= len(indices) >= _CANDIDATES
            for index in map(int, indices):
                if index not in self.names:
                    self.names[index] = self._source.describe(index)
                    logging.warning("skipped, cannot be decoded: %s", self.names[index])

    def check(self) -> None:
        """Raises `BrokenImagesError` once too many images are broken; called at every step."""
        allowed = self._max_share * self._source.num_examples
        if len(self.names) <= allowed and not self._is_hopeless:
            return
        some = ", ".join(list(self.names.values())[:5])
        raise BrokenImagesError(
            f"{len(self.names)} of the {self._source.num_examples} images of {self._source.name} "
            f"cannot be decoded so far, more than the allowed share of {self._max_share:g}: {some}"
        )


def decode(encoded: Tensor) -> Tensor:
    """JPEG, PNG, BMP, WebP or the first frame of a GIF to `(H, W, 3)` uint8 RGB."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def check_decodable(source: Source, num_tries: int = 16) -> None:
    """Raises ValueError when none of some images spread over the source can be decoded."""
    indices = np.unique(np.linspace(0, source.num_examples - 1, num_tries).astype(np.int64))
    for index in indices:
        try:
            decode(source.read(tf.constant(index))["image"])
            return
        except tf.errors.OpError:
            continue
    names = ", ".join(source.describe(int(index)) for index in indices[:3])
    raise ValueError(f"none of {len(indices)} files that were tried is an image, such as {names}")


def make_views(image: Tensor, seed: Tensor, config: DataConfig) -> Batch:
    """Two views of an image and their coordinates.

    Args:
        image: `(H, W, 3)` uint8.
        seed: `(2,)` integers.
        config: how.

    Returns:
        `view1`, `view2`: `(S, S, 3)` float32 RGB in 0..255; `coord1`, `coord2`: `(4,)`.
    """
    views = {}
    recipe_pair = recipes.RECIPES[config.recipe]
    for view_key, coord_key, recipe, view_seed in zip(
        (VIEW1, VIEW2), (COORD1, COORD2), recipe_pair, tf.unstack(tf.random.split(seed, 2))
    ):
        crop_seed, flip_seed, color_seed = tf.unstack(tf.random.split(view_seed, 3))
        shape = tf.shape(image)
        box = crops.random_resized_crop_box(crop_seed, shape[0], shape[1], config.crop_area)
        view, coord = crops.crop_and_resize(image, box, config.image_size)
        view, coord = crops.random_flip(view, coord, flip_seed, recipe.flip)
        views[view_key] = recipes.apply_photometric(view, color_seed, recipe)
        views[coord_key] = coord
    return views


def make_dataset(
    source: Source,
    config: DataConfig,
    *,
    global_batch_size: int,
    replica_batch_size: int | None = None,
    preprocess: Callable[[Tensor], Tensor] | None = None,
    start_step: int = 0,
    input_pipeline_id: int = 0,
    num_input_pipelines: int = 1,
    broken: BrokenImages | None = None,
) -> tf.data.Dataset:
    """Endless batches from a step on.

    Image and augmentation of each place in a batch are functions of the seed, the step and the
    place, so there is no state to save, and the same global batch comes from any number of machines,
    replicas or threads. A pass takes `N // B * B` of the N images in a new random order.

    Args:
        source: the images.
        config: the views.
        global_batch_size: images per step of all machines together (B).
        replica_batch_size: images in each batch of this data set; default: this machine's share.
        preprocess: from RGB in 0..255 to the backbone's convention, on batches of views.
        start_step: the step of the first batch.
        input_pipeline_id: number of this machine, from 0.
        num_input_pipelines: number of machines.
        broken: told about images that cannot be decoded.

    Returns:
        A data set of batches as in `pixpro_keras.batch`.

    Raises:
        ValueError: if the source has fewer images than a batch, or a size does not divide.
    """
    total = source.num_examples
    if total < global_batch_size:
        raise ValueError(f"a batch of {global_batch_size} needs more than {total} images")
    if global_batch_size % num_input_pipelines:
        raise ValueError(
            f"`global_batch_size` must be a multiple of {num_input_pipelines} machines. "
            f"Received: {global_batch_size}."
        )
    share = global_batch_size // num_input_pipelines
    replica_batch_size = replica_batch_size or share
    per_pass = total // global_batch_size * global_batch_size
    broken = broken or BrokenImages(source, config.max_broken_share)

    def sample(place: Tensor) -> Batch:
        """The image at a place in the stream of this machine."""
        position = place // share * global_batch_size + input_pipeline_id * share + place % share
        seed = tf.stack([tf.constant(config.seed, tf.int64), position])
        number, within = position // per_pass, position % per_pass
        order_seed = tf.cast(tf.stack([tf.constant(config.seed, tf.int64), number]), tf.uint32)
        index = tf.random.experimental.index_shuffle(within, order_seed, total - 1)
        substitute_seed, view_seed = tf.unstack(tf.random.split(seed, 2))
        others = tf.random.stateless_uniform(
            (_CANDIDATES - 1,), substitute_seed, maxval=total, dtype=tf.int64
        )
        candidates = tf.concat([index[None], others], axis=0)
        image, label = _first_readable(source, candidates, broken)
        return make_views(image, view_seed, config) | {LABEL: label}

    def prepare(batch: Batch) -> Batch:
        return batch | {view: preprocess(batch[view]) for view in (VIEW1, VIEW2)}

    parallel = config.num_parallel_calls or tf.data.AUTOTUNE
    data = tf.data.Dataset.range(start_step * share, np.iinfo(np.int64).max)
    data = data.map(sample, num_parallel_calls=parallel, deterministic=True)
    data = data.batch(replica_batch_size, drop_remainder=True)
    if preprocess is not None:
        data = data.map(prepare)
    return data.prefetch(tf.data.AUTOTUNE)


def _first_readable(
    source: Source, candidates: Tensor, broken: BrokenImages
) -> tuple[Tensor, Tensor]:
    """Image and label of the first candidate that can be decoded.

    An error inside a graph ends the data set, except under `ignore_errors`: a data set of the
    candidates, of which the first survivor is taken, is the try and except of a graph.
    """

    def attempt(number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        example = source.read(candidates[number])
        return decode(example["image"]), example["label"], number

    nothing = (tf.zeros((1, 1, 3), tf.uint8), tf.constant(-1), tf.constant(_CANDIDATES, tf.int64))
    attempts = tf.data.Dataset.range(_CANDIDATES).map(attempt).ignore_errors()
    attempts = attempts.concatenate(tf.data.Dataset.from_tensors(nothing)).take(1)
    image, label, number = attempts.get_single_element()

    def report() -> Tensor:
        return tf.numpy_function(_reporter(broken), [candidates[:number]], tf.bool)

    with tf.control_dependencies([tf.cond(number > 0, report, lambda: True)]):
        return tf.identity(image), tf.identity(label)


def _reporter(broken: BrokenImages) -> Callable[[np.ndarray], bool]:
    def report(indices: np.ndarray) -> bool:
        broken.report(indices)
        if len(indices) >= _CANDIDATES:
            raise ValueError("no readable image was found")
        return True

    return report
