"""Input pipeline of segmentation: training batches of crops, and whole images."""

import dataclasses
from collections.abc import Callable, Iterator

import tensorflow as tf

from pixpro_keras.data.broken_images import BrokenImages, first_readable
from pixpro_keras.data.sampler import Sampler
from pixpro_keras.data.transforms import recipes
from pixpro_keras.data.transforms.resize import resize_bilinear
from pixpro_keras.segmentation.mask_source import MaskSource
from pixpro_keras.types import IGNORED, Tensor
from pixpro_keras.utils import checks
from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning

IMAGE = "image"
MASK = "mask"

# Color of the padding, in 0..255: ImageNet's mean.
MEAN_COLOR = (123.675, 116.28, 103.53)
_JITTER = recipes.ViewRecipe(
    jitter=0.8, jitter_strengths=(0.25, 0.5, 0.5, 0.05), grayscale=0.0, blur=0.0
)


@dataclasses.dataclass(frozen=True)
class CropConfig:
    """Configuration of training crops.

    Attributes:
        crop_size: side of the square crops in pixels.
        scales: smallest and largest factor by which an image is scaled first.
        seed: seed of order and augmentation.
        color_jitter: if True, brightness, contrast, saturation and hue change at random.
        use_xla: if True, XLA compiles color changes for the host.

    Example:
        ```python
        from pixpro_keras.segmentation.mask_pipeline import CropConfig

        config = CropConfig(crop_size=512, scales=(0.5, 2.0))
        ```
    """

    crop_size: int
    scales: tuple[float, float] = (0.5, 2.0)
    seed: int = 0
    color_jitter: bool = True
    use_xla: bool = True

    def __post_init__(self):
        """Checks the values."""
        checks.positive("crop_size", self.crop_size)
        if not 0 < self.scales[0] <= self.scales[1]:
            raise ValueError(
                f"`scales` must be positive and ascend. Received: scales={self.scales}."
            )


def make_crop(image: Tensor, mask: Tensor, seed: Tensor, config: CropConfig) -> dict[str, Tensor]:
    """Makes a crop with random scale, position, flip and, if configured, colors, and its mask.

    Pixels beyond the image get the mean color and the class 255. Masks are scaled without
    interpolation, so that no new classes appear.

    Args:
        image: `(H, W, 3)` uint8.
        mask: `(H, W)` int32.
        seed: `(2,)` integers.
        config: configuration of the crop.

    Returns:
        `image`: `(S, S, 3)` float32 RGB in 0..255; `mask`: `(S, S)` int32.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.segmentation.mask_pipeline import CropConfig, make_crop

        image, mask = tf.zeros((40, 60, 3), tf.uint8), tf.zeros((40, 60), tf.int32)
        crop = make_crop(image, mask, tf.constant([0, 7]), CropConfig(32, use_xla=False))
        assert crop["mask"].shape == (32, 32)
        ```
    """
    size = config.crop_size
    draw_seed, color_seed = tf.unstack(tf.random.split(seed, 2))
    draws = tf.random.stateless_uniform((4,), draw_seed)
    scale = config.scales[0] + (config.scales[1] - config.scales[0]) * draws[0]
    shape = tf.cast(tf.shape(mask), tf.float32)
    scaled = tf.maximum(tf.cast(tf.round(scale * shape), tf.int32), 1)
    image = resize_bilinear(image, scaled)
    mask = tf.image.resize(mask[..., None], scaled, "nearest")[..., 0]
    missing = tf.maximum(size - scaled, 0)
    padding = [[0, missing[0]], [0, missing[1]]]
    mean = tf.constant(MEAN_COLOR)
    image = tf.pad(image - mean, [*padding, [0, 0]]) + mean
    mask = tf.pad(mask, padding, constant_values=IGNORED)
    room = tf.cast(tf.maximum(scaled - size, 0) + 1, tf.float32)
    top, left = tf.unstack(tf.cast(draws[1:3] * room, tf.int32))
    image = tf.slice(image, [top, left, 0], [size, size, 3])
    mask = tf.slice(mask, [top, left], [size, size])
    flips = draws[3] < 0.5
    image = tf.cond(flips, lambda: tf.reverse(image, [1]), lambda: image)
    mask = tf.cond(flips, lambda: tf.reverse(mask, [1]), lambda: mask)
    image = tf.ensure_shape(image, (size, size, 3))
    if config.color_jitter:
        image = recipes.apply_photometric(image, color_seed, _JITTER, config.use_xla)
    return {IMAGE: image, MASK: tf.ensure_shape(mask, (size, size))}


def make_crops(
    source: MaskSource,
    config: CropConfig,
    *,
    global_batch_size: int,
    replica_batch_size: int | None = None,
    preprocess: Callable[[Tensor], Tensor],
    start_step: int = 0,
    input_pipeline_id: int = 0,
    num_input_pipelines: int = 1,
    broken: BrokenImages | None = None,
) -> tf.data.Dataset:
    """Makes an endless data set of batches from a step on, in the order of `Sampler`.

    Args:
        source: images and masks, at least a batch of them.
        config: configuration of the crops.
        global_batch_size: images per step of all machines together.
        replica_batch_size: images in each batch of this data set; None is this machine's share.
        preprocess: function from RGB in 0..255 to the backbone's convention.
        start_step: step of the first batch.
        input_pipeline_id: number of this machine, from 0.
        num_input_pipelines: number of machines.
        broken: count of images that cannot be decoded and are replaced by others; without it, such
            an image ends the data set.

    Returns:
        Data set of `{"image": (b, S, S, 3) float32, "mask": (b, S, S) int32}`.

    Raises:
        ValueError: if the source has fewer images than a batch, or batch sizes do not divide.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.segmentation.mask_pipeline import CropConfig, make_crops
        from pixpro_keras.segmentation.mask_source import MaskSource

        def read(index):
            return tf.zeros((40, 60, 3), tf.uint8), tf.zeros((40, 60), tf.int32)

        data = make_crops(
            MaskSource("black", 4, read, str, ("ground",)),
            CropConfig(32, use_xla=False),
            global_batch_size=2,
            preprocess=lambda images: images / 255,
        )
        assert next(iter(data))["image"].shape == (2, 32, 32, 3)
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

    def sample(position: Tensor) -> dict[str, Tensor]:
        if broken is None:
            image, mask = source.read(sampler.index(position))
        else:
            image, mask = first_readable(
                source.read, lambda attempt: sampler.index(position, attempt), broken.report
            )
        return make_crop(image, mask, sampler.sample_seed(position), config)

    data = sampler.batches(
        sample,
        start_step=start_step,
        transform=lambda batch: batch | {IMAGE: preprocess(batch[IMAGE])},
    )
    return data.prefetch(tf.data.AUTOTUNE)


def readable_batches(
    source: MaskSource,
    preprocess: Callable[[Tensor], Tensor],
    batch_size: int = 1,
    broken: BrokenImages | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterates over batches of whole images and their masks, in their order.

    The last batch may be smaller. Images that cannot be decoded are passed over.

    Args:
        source: images and masks, all of one size if a batch has more than one.
        preprocess: function from RGB in 0..255 to the backbone's convention.
        batch_size: images per batch.
        broken: count of the source's broken images, which the log names once; None: at most 1 % of them.

    Raises:
        BrokenImagesError: once too many of them cannot be decoded.
        WrongValueError: if a mask has a value without a class.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.segmentation.mask_pipeline import readable_batches
        from pixpro_keras.segmentation.mask_source import MaskSource

        def read(index):
            return tf.zeros((40, 60, 3), tf.uint8), tf.zeros((40, 60), tf.int32)

        source = MaskSource("black", 4, read, str, ("ground",))
        images, masks = next(readable_batches(source, lambda x: x, batch_size=3))
        assert masks.shape == (3, 40, 60)
        ```
    """

    def read(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, mask = source.read(index)
        return preprocess(image), mask, index

    data = without_autotuning(tf.data.Dataset.range(source.num_examples))
    data = data.map(read, num_parallel_calls=NUM_THREADS, deterministic=True)
    data = data.ignore_errors().batch(batch_size).prefetch(2)
    broken = broken or BrokenImages(source, max_share=0.01)
    for images, masks, _ in broken.watch(data, lambda batch: batch[2].numpy()):
        yield images, masks
