"""Input pipeline of pre-training: two views per image, in an order that depends on seed and step."""

import dataclasses
import numbers
from collections.abc import Callable

import tensorflow as tf

from pixpro_keras.data import service
from pixpro_keras.data.broken_images import BrokenImages, decode_some, first_readable
from pixpro_keras.data.decoding import decode
from pixpro_keras.data.image_cache import ImageCache
from pixpro_keras.data.sampler import Sampler
from pixpro_keras.data.sources.source import Source
from pixpro_keras.data.transforms import crops, jigsaw, recipes
from pixpro_keras.types import (
    COORD1,
    COORD2,
    DRAWS1,
    DRAWS2,
    JIGSAW,
    LABEL,
    LOCAL_COORDS,
    LOCAL_DRAWS,
    LOCAL_VIEWS,
    VIEW1,
    VIEW2,
    Batch,
    Tensor,
)
from pixpro_keras.utils import checks

_IMAGES = (VIEW1, VIEW2, LOCAL_VIEWS, JIGSAW)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Configuration of the views.

    Attributes:
        image_size: side of the square views in pixels.
        recipe: a key of `recipes.RECIPES`.
        num_views: views of each image, 1 or 2.
        with_jigsaw: whether batches also contain the patches of InfoMin's jigsaw puzzle.
        crop_area: smallest and largest area of a crop, as fractions of the image.
        num_local_views: number of additional small views (multi-crop), 0 or more.
        local_image_size: side of the square local views in pixels.
        local_crop_area: smallest and largest area of a local view's crop.
        color_strength: factor of the recipe's color changes; see `recipes.scale_colors`.
        blur_strength: factor of the blur's standard deviation; see `recipes.scale_blur`.
        seed: seed of order and augmentation, in `[0, 2**32)`.
        max_broken_share: largest fraction of a source's images that may be unreadable.
        num_parallel_calls: threads that decode and augment; None is the number of processors.
        use_xla: if True, XLA compiles color changes and blur for the host, which makes them several
            times faster and the start a few seconds slower.
        colors_on_device: if True, color augmentation and blur are left to `make_device_transform`.
            Batches then contain the random numbers for them and are not preprocessed.

    Example:
        ```python
        from pixpro_keras.data import DataConfig

        config = DataConfig(image_size=96, recipe="mocov2", crop_area=(0.2, 1.0))
        ```
    """

    image_size: int
    recipe: str = "byol"
    num_views: int = 2
    with_jigsaw: bool = False
    crop_area: tuple[float, float] = (0.08, 1.0)
    num_local_views: int = 0
    local_image_size: int = 48
    local_crop_area: tuple[float, float] = (0.05, 0.2)
    color_strength: float = 1.0
    blur_strength: float = 1.0
    seed: int = 0
    max_broken_share: float = 0.01
    num_parallel_calls: int | None = None
    use_xla: bool = True
    colors_on_device: bool = False

    @property
    def recipes(self) -> tuple[recipes.ViewRecipe, ...]:
        """Recipe of each of two views, at `color_strength` and `blur_strength`."""
        return tuple(
            recipes.scale_blur(recipes.scale_colors(one, self.color_strength), self.blur_strength)
            for one in recipes.RECIPES[self.recipe]
        )

    def __post_init__(self):
        """Checks the values."""
        for name in ("image_size", "local_image_size"):
            side = getattr(self, name)
            if not isinstance(side, numbers.Integral) or side < 1:
                raise ValueError(
                    f"`{name}` must be the side of square views, a positive integer. "
                    f"Received: {name}={side}."
                )
        checks.one_of("recipe", self.recipe, recipes.RECIPES)
        checks.in_range("num_views", self.num_views, 1, 2)
        checks.at_least("num_local_views", self.num_local_views, 0)
        for name in ("crop_area", *(["local_crop_area"] if self.num_local_views else [])):
            area = getattr(self, name)
            if not 0 < area[0] <= area[1] <= 1:
                raise ValueError(
                    f"`{name}` must be an interval in (0, 1]. Received: {name}={area}."
                )
        checks.at_least("color_strength", self.color_strength, 0)
        checks.at_least("blur_strength", self.blur_strength, 0)
        checks.in_range("seed", self.seed, 0, 2**32 - 1)
        checks.in_range("max_broken_share", self.max_broken_share, 0, 1)
        if self.num_parallel_calls is not None:
            checks.positive("num_parallel_calls", self.num_parallel_calls)
        if self.colors_on_device and recipes.moves_pixels(self.recipe):
            raise ValueError(
                f"`colors_on_device` does not support RandAugment. Received: recipe={self.recipe!r}."
            )


def check_decodable(source: Source, num_tries: int = 16) -> None:
    """Checks that a source has an image that can be decoded.

    Args:
        source: source of the images.
        num_tries: largest number of images to try.

    Raises:
        ValueError: if none of them can be decoded.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import Source, check_decodable

        def read(index):
            return {"image": tf.io.encode_png(tf.zeros((8, 8, 3), tf.uint8)), "label": -1}

        check_decodable(Source("black", 5, read, str))
        ```
    """
    for _ in decode_some(source, num_tries):
        return
    indices = source.spread_indices(num_tries)
    names = ", ".join(source.describe(index) for index in indices[:3])
    raise ValueError(f"none of {len(indices)} files that were tried is an image, such as {names}")


@tf.autograph.experimental.do_not_convert  # Not needed here; AutoGraph takes half of the tracing time.
def make_views(image: Tensor, seed: Tensor, config: DataConfig) -> Batch:
    """Makes the views of an image and their coordinates.

    Args:
        image: `(H, W, 3)` uint8.
        seed: `(2,)` integers.
        config: configuration of the views.

    Returns:
        `view1`, and `view2` where there are two: `(S, S, 3)` float32 RGB in 0..255; `coord1`,
        `coord2`: `(4,)`; with a puzzle, `jigsaw`: `(9, P, P, 3)`; if the device augments colors,
        `draws1`, `draws2`: `(13,)`. With local views, `local_views`: `(K, s, s, 3)`, `local_coords`:
        `(K, 4)` and `local_draws`: `(K, 13)`.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import DataConfig, make_views

        config = DataConfig(image_size=16, use_xla=False)
        views = make_views(tf.zeros((40, 60, 3), tf.uint8), tf.constant([0, 7]), config)
        assert views["view1"].shape == (16, 16, 3)
        ```
    """
    views: Batch = {}
    shape = tf.shape(image)
    # One call for all numbers, since calls cost more than numbers.
    seeds = tf.unstack(tf.random.split(seed, 7 + 3 * config.num_local_views))
    keys = ((VIEW1, COORD1, DRAWS1), (VIEW2, COORD2, DRAWS2))
    first_box: crops.Box | None = None
    for number, recipe in enumerate(config.recipes[: config.num_views]):
        crop_seed, flip_seed, color_seed = seeds[3 * number : 3 * number + 3]
        is_good = None
        if recipe.min_overlap and first_box is not None:

            def is_good(boxes, first_box=first_box, share=recipe.min_overlap):
                return crops.overlap_share(boxes, first_box) >= share

        box = crops.random_resized_crop_box(
            crop_seed, shape[0], shape[1], config.crop_area, is_good=is_good
        )
        first_box = first_box or box
        view = _finish_view(image, box, config.image_size, flip_seed, color_seed, recipe, config)
        views |= zip(keys[number], view, strict=False)
    local_views = []
    for number in range(config.num_local_views):
        crop_seed, flip_seed, color_seed = seeds[7 + 3 * number : 10 + 3 * number]
        box = crops.random_resized_crop_box(crop_seed, shape[0], shape[1], config.local_crop_area)
        recipe = config.recipes[number % 2]
        local_views.append(
            _finish_view(image, box, config.local_image_size, flip_seed, color_seed, recipe, config)
        )
    if local_views:
        stacked = [tf.stack(x) for x in zip(*local_views, strict=True)]
        views |= zip((LOCAL_VIEWS, LOCAL_COORDS, LOCAL_DRAWS), stacked, strict=False)
    if config.with_jigsaw:
        views[JIGSAW] = jigsaw.make_patches(image, seeds[6], config.image_size)
    return views


def _finish_view(
    image: Tensor,
    box: crops.Box,
    size: int,
    flip_seed: Tensor,
    color_seed: Tensor,
    recipe: recipes.ViewRecipe,
    config: DataConfig,
) -> tuple[Tensor, ...]:
    """Makes the view of a box: image, corners and, if the device augments colors, random numbers."""
    view, coord = crops.crop_and_resize(image, box, size, recipe.interpolation)
    view, coord = crops.random_flip(view, coord, flip_seed, recipe.flip)
    if config.colors_on_device:
        return view, coord, recipes.draw(color_seed)
    return recipes.apply_photometric(view, color_seed, recipe, config.use_xla), coord


def make_device_transform(
    config: DataConfig, preprocess: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Batch], Batch]:
    """Makes a function that augments the colors of batches on the device, in the training step.

    Args:
        config: configuration of the batches, with `colors_on_device`.
        preprocess: function from RGB in 0..255 to the backbone's convention.

    Returns:
        Function from batches with `colors_on_device` to those of `make_dataset` without it, up to
        rounding.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import DataConfig, make_device_transform

        config = DataConfig(image_size=8, num_views=1, colors_on_device=True)
        device_transform = make_device_transform(config, lambda views: views / 127.5 - 1)
        batch = {"view1": tf.zeros((2, 8, 8, 3)), "draws1": tf.fill((2, 13), 0.5)}
        assert list(device_transform(batch)) == ["view1"]
        ```
    """

    def device_transform(batch: Batch) -> Batch:
        batch = dict(batch)
        keys = zip((VIEW1, VIEW2), (DRAWS1, DRAWS2), config.recipes, strict=True)
        for view, draws, recipe in keys:
            if view in batch:
                batch[view] = recipes.apply_to_batch(batch[view], batch.pop(draws), recipe)
        if LOCAL_VIEWS in batch:
            pairs = zip(
                tf.unstack(batch[LOCAL_VIEWS], axis=1),
                tf.unstack(batch.pop(LOCAL_DRAWS), axis=1),
                strict=True,
            )
            local_views = [
                recipes.apply_to_batch(*pair, config.recipes[number % 2])
                for number, pair in enumerate(pairs)
            ]
            batch[LOCAL_VIEWS] = tf.stack(local_views, axis=1)
        if preprocess is not None:
            batch |= {key: preprocess(batch[key]) for key in _IMAGES if key in batch}
        return batch

    return device_transform


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
    cache: ImageCache | None = None,
) -> tf.data.Dataset:
    """Makes an endless data set of batches from a step on, in the order of `Sampler`.

    Args:
        source: source of the images.
        config: configuration of the views.
        global_batch_size: images per step of all machines together.
        replica_batch_size: images in each batch of this data set; None is this machine's share.
        preprocess: function from RGB in 0..255 to the backbone's convention, on batches of views.
        start_step: step of the first batch.
        input_pipeline_id: number of this machine, from 0.
        num_input_pipelines: number of machines.
        broken: count of the images that cannot be decoded.
        data_service: `HOST:PORT` of a tf.data service that makes the batches. The choice and order
            of the images then depend on the speed of its workers, and broken images are skipped
            without being counted.
        cache: cache of the source's decoded images, from `plan_image_cache`; several data sets may share
            it. Not used with `data_service`.

    Returns:
        A data set of batches as in `pixpro_keras.types`.

    Raises:
        ValueError: if the source has fewer images than a batch, batch sizes do not divide, or the service
            cannot be used.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data import DataConfig, Source, make_dataset

        def read(index):
            image = tf.fill((8, 8, 3), tf.cast(index, tf.uint8))
            return {"image": tf.io.encode_png(image), "label": tf.constant(-1)}

        source = Source("grays", 16, read, str)
        data = make_dataset(source, DataConfig(8, use_xla=False), global_batch_size=4)
        batch = next(iter(data))
        assert batch["view1"].shape == (4, 8, 8, 3)
        ```
    """
    sampler = Sampler(
        source.num_examples,
        global_batch_size,
        config.seed,
        replica_batch_size,
        input_pipeline_id,
        num_input_pipelines,
    )
    report: Callable[[int, bool], None] | None = None
    if data_service is None:
        report = (broken or BrokenImages(source, config.max_broken_share)).report
    else:
        service.check_address(data_service)
        service.check_source(source)

    def read_once(index: Tensor) -> tuple[Tensor, Tensor]:
        example = source.read(index)
        return decode(example["image"]), example["label"]

    def read(index: Tensor) -> tuple[Tensor, Tensor]:
        if cache is None or data_service is not None:
            return read_once(index)
        return cache.read(index, read_once)

    def sample(position: Tensor) -> Batch:
        image, label = first_readable(
            read, lambda attempt: sampler.index(position, attempt), report
        )
        return make_views(image, sampler.sample_seed(position), config) | {LABEL: label}

    def preprocess_views(batch: Batch) -> Batch:
        assert preprocess is not None
        return {k: preprocess(v) if k in _IMAGES else v for k, v in batch.items()}

    data = sampler.batches(
        sample,
        start_step=start_step,
        transform=None if preprocess is None else preprocess_views,
        num_parallel_calls=config.num_parallel_calls,
    )
    if data_service is not None:
        data = service.through_service(data, data_service)
    return data.prefetch(tf.data.AUTOTUNE)
