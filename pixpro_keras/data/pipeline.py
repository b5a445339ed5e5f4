"""From a source to batches: two views per image, in an order that only seed and step decide."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pixpro_keras.data import service
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.sampler import CANDIDATES, image_at
from pixpro_keras.data.sources import Source
from pixpro_keras.data.transforms import crops, jigsaw, recipes
from pixpro_keras.types import (
    COORD1,
    COORD2,
    DRAWS1,
    DRAWS2,
    JIGSAW,
    LABEL,
    VIEW1,
    VIEW2,
    Batch,
    Tensor,
)

_IMAGES = (VIEW1, VIEW2, JIGSAW)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """How views are made.

    Attributes:
        image_size: side of the square views in pixels.
        recipe: a key of `recipes.RECIPES`.
        num_views: views of each image, 1 or 2.
        with_jigsaw: whether the patches of a jigsaw puzzle come with them.
        crop_area: smallest and largest crop, as shares of the image's area.
        seed: of order and augmentation.
        max_broken_share: share of a source's images that may be unreadable.
        num_parallel_calls: threads that decode and augment; None lets tf.data decide.
        use_xla: whether XLA compiles colour changes and blur for the host, which makes them several
            times faster and the start a few seconds slower.
        colors_on_device: whether colours and blur are left to `finish_on_device`. The batches then hold
            the random numbers that decide about them, and take no `preprocess`.
    """

    image_size: int
    recipe: str = "byol"
    num_views: int = 2
    with_jigsaw: bool = False
    crop_area: tuple[float, float] = (0.08, 1.0)
    seed: int = 0
    max_broken_share: float = 0.01
    num_parallel_calls: int | None = None
    use_xla: bool = True
    colors_on_device: bool = False

    def __post_init__(self):
        """Refuses what cannot work."""
        if self.image_size < 1:
            raise ValueError(f"`image_size` must be positive. Received: {self.image_size}.")
        if self.recipe not in recipes.RECIPES:
            raise ValueError(
                f"`recipe` must be one of {', '.join(recipes.RECIPES)}. Received: {self.recipe!r}."
            )
        if self.num_views not in (1, 2):
            raise ValueError(f"`num_views` must be 1 or 2. Received: {self.num_views}.")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(
                f"`crop_area` must be an interval in (0, 1]. Received: {self.crop_area}."
            )
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"`seed` must be in 0..2**32 - 1. Received: {self.seed}.")
        if not 0 <= self.max_broken_share <= 1:
            raise ValueError(
                f"`max_broken_share` must be in [0, 1]. Received: {self.max_broken_share}."
            )
        if self.num_parallel_calls is not None and self.num_parallel_calls < 1:
            raise ValueError(
                f"`num_parallel_calls` must be positive. Received: {self.num_parallel_calls}."
            )
        if self.colors_on_device and recipes.moves_pixels(self.recipe):
            raise ValueError(
                f"`colors_on_device` cannot be for RandAugment. Received: recipe={self.recipe!r}."
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
        except (tf.errors.OpError, UnicodeDecodeError):  # TensorFlow's message may quote the bytes
            continue
    names = ", ".join(source.describe(int(index)) for index in indices[:3])
    raise ValueError(f"none of {len(indices)} files that were tried is an image, such as {names}")


def make_views(image: Tensor, seed: Tensor, config: DataConfig) -> Batch:
    """The views of an image and their coordinates.

    Args:
        image: `(H, W, 3)` uint8.
        seed: `(2,)` integers.
        config: how.

    Returns:
        `view1`, and `view2` where there are two: `(S, S, 3)` float32 RGB in 0..255; `coord1`,
        `coord2`: `(4,)`; with a puzzle, `jigsaw`: `(9, P, P, 3)`; if the device does the rest,
        `draws1`, `draws2`: `(13,)`.
    """
    views: Batch = {}
    shape = tf.shape(image)
    # All at once: drawing random numbers costs more by calls than by numbers.
    seeds = tf.unstack(tf.random.split(seed, 7))
    keys = ((VIEW1, COORD1, DRAWS1), (VIEW2, COORD2, DRAWS2))
    first_box: crops.Box | None = None
    for number, recipe in enumerate(recipes.RECIPES[config.recipe][: config.num_views]):
        crop_seed, flip_seed, color_seed = seeds[3 * number : 3 * number + 3]
        is_good = None
        if recipe.min_overlap and first_box is not None:

            def is_good(boxes, first_box=first_box, share=recipe.min_overlap):
                return crops.overlap_share(boxes, first_box) >= share

        box = crops.random_resized_crop_box(
            crop_seed, shape[0], shape[1], config.crop_area, is_good=is_good
        )
        first_box = first_box or box
        view, coord = crops.crop_and_resize(image, box, config.image_size, recipe.interpolation)
        view, coord = crops.random_flip(view, coord, flip_seed, recipe.flip)
        if config.colors_on_device:
            views[keys[number][2]] = recipes.draw(color_seed)
        else:
            view = recipes.apply_photometric(view, color_seed, recipe, config.use_xla)
        views |= zip(keys[number][:2], (view, coord), strict=True)
    if config.with_jigsaw:
        views[JIGSAW] = jigsaw.make_patches(image, seeds[6], config.image_size)
    return views


def finish_on_device(
    config: DataConfig, preprocess: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Batch], Batch]:
    """What is left to do to batches whose colours are for the device; part of the training step.

    Args:
        config: of the batches, with `colors_on_device`.
        preprocess: from RGB in 0..255 to the backbone's convention.

    Returns:
        Function from those batches to such as `make_dataset` gives otherwise, up to rounding.
    """

    def finish(batch: Batch) -> Batch:
        batch = dict(batch)
        two_recipes = recipes.RECIPES[config.recipe]
        for view, draws, recipe in zip((VIEW1, VIEW2), (DRAWS1, DRAWS2), two_recipes, strict=True):
            if view in batch:
                batch[view] = recipes.apply_to_batch(batch[view], batch.pop(draws), recipe)
        if preprocess is not None:
            batch |= {key: preprocess(batch[key]) for key in _IMAGES if key in batch}
        return batch

    return finish


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
    data_service: str | None = None,
) -> tf.data.Dataset:
    """Endless batches from a step on.

    Image and augmentation of each place in a batch are functions of the seed, the step and the
    place, so there is no state to save, and any number of machines, replicas or threads makes the
    same global batch. A pass takes `N // B * B` of the N images in a new random order.

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
        data_service: `HOST:PORT` of a tf.data service that makes the batches. Each holds the same kind
            of images, but which of them, and in which order, depends on how fast its workers are; and
            broken images are passed over without a word.

    Returns:
        A data set of batches as in `pixpro_keras.types`.

    Raises:
        ValueError: if the source has fewer images than a batch, a size does not divide, or the service
            cannot be used.
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
    if share % replica_batch_size:
        raise ValueError(
            f"`replica_batch_size` must divide a machine's {share} images. "
            f"Received: {replica_batch_size}."
        )
    report: Callable[[int, bool], None] | None = None
    if data_service is None:
        report = (broken or BrokenImages(source, config.max_broken_share)).report
    else:
        service.check_address(data_service)
        service.check_source(source)

    def sample(place: Tensor) -> Batch:
        """The image at a place in the stream of this machine."""
        position = place // share * global_batch_size + input_pipeline_id * share + place % share
        seed = tf.constant(config.seed, tf.int64)

        def candidate(attempt: Tensor) -> Tensor:
            return image_at(position, attempt, total, global_batch_size, config.seed)

        image, label = _first_readable(source, candidate, report)
        return make_views(image, tf.stack([seed, position]), config) | {LABEL: label}

    parallel = config.num_parallel_calls or tf.data.AUTOTUNE
    data = tf.data.Dataset.range(start_step * share, np.iinfo(np.int64).max)
    data = data.map(sample, num_parallel_calls=parallel, deterministic=True)
    data = data.batch(replica_batch_size, drop_remainder=True)
    if preprocess is not None:
        data = data.map(
            lambda batch: {k: preprocess(v) if k in _IMAGES else v for k, v in batch.items()},
            num_parallel_calls=parallel,
            deterministic=True,
        )
    if data_service is not None:
        data = service.through_service(data, data_service)
    return data.prefetch(tf.data.AUTOTUNE)


def _first_readable(
    source: Source,
    candidate: Callable[[Tensor], Tensor],
    report: Callable[[int, bool], None] | None,
) -> tuple[Tensor, Tensor]:
    """Image and label of the first candidate that can be decoded; the others are reported.

    An error in a graph ends the data set, except under `ignore_errors`: a data set of the
    candidates, of which the first survivor is taken, is the try and except of a graph. Without
    `report`, the graph needs no Python, and other processes can run it.
    """

    def report_in_python(index: np.ndarray, attempt: np.ndarray) -> np.ndarray:
        is_last = bool(attempt == CANDIDATES)
        if report is not None:
            report(int(index), is_last)
        if is_last:
            raise ValueError("no readable image was found")
        return index

    def attempt(number: Tensor) -> tuple[Tensor, Tensor]:
        def report_last() -> Tensor:
            last = candidate(number - 1)
            last = tf.numpy_function(report_in_python, [last, number], tf.int64)
            return tf.ensure_shape(last, ())

        last = tf.constant(-1, tf.int64)
        if report is not None:
            last = tf.cond(number > 0, report_last, lambda: tf.constant(-1, tf.int64))
        with tf.control_dependencies([last]):  # An error below would cancel the report.
            example = source.read(candidate(tf.identity(number)))
        return decode(example["image"]), example["label"]

    # One number more than there are candidates, so that the last one's failure is reported too.
    attempts = tf.data.Dataset.range(CANDIDATES + (report is not None))
    # In the calling thread, which has nothing else to do.
    attempts = attempts.map(attempt, synchronous=True).ignore_errors()
    return attempts.take(1).get_single_element()
