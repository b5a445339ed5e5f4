"""Views of a pre-training's images: the batches of its steps, and what is shown of them."""

import numpy as np
import tensorflow as tf

from pixpro_keras import backbones
from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.data import pipeline
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.image_cache import ImageCache, plan_image_cache
from pixpro_keras.data.labels import select
from pixpro_keras.data.sampler import name_images
from pixpro_keras.data.sources import Source
from pixpro_keras.evaluation.features import IMAGE, image_batches
from pixpro_keras.training.stalls import STALL_SECONDS, warn_of_stall
from pixpro_keras.types import Batch

# Number of whole images, and their side in pixels: C5 has 12 x 12 cells.
_NUM_WHOLE = 4
_WHOLE_SIZE = 384


class RunViews:
    """Views of a pre-training's images.

    Args:
        options: resolved.
        source: training images.
        config: configuration of the views.
        replica_batch_size: images that each replica takes per step.

    Attributes:
        config: configuration of the views.
        broken: count of images that cannot be decoded.
        preprocess: the backbone's preprocessing.
        device_transform: part of the augmentation that is left to the training step, and the preprocessing
            after it; None if the batches have both.
    """

    def __init__(
        self,
        options: PretrainOptions,
        source: Source,
        config: pipeline.DataConfig,
        replica_batch_size: int,
    ):
        self._options, self._source, self.config = options, source, config
        self._replica_batch_size = replica_batch_size
        self._cache: ImageCache | None = None
        self._made: dict[tuple[int, int, int], tf.data.Dataset] = {}
        self.broken = BrokenImages(source, config.max_broken_share)
        self.preprocess = backbones.preprocess_input(options.backbone)
        self.device_transform = None
        if config.colors_on_device:
            self.device_transform = pipeline.make_device_transform(config, self.preprocess)

    def plan_cache(self) -> None:
        """Makes the cache of `plan_image_cache` for the batches, if they are made in this process."""
        if not self._options.data_service:
            self._cache = plan_image_cache(self._source, self._options.image_cache_share)

    def batches(
        self, start_step: int, input_pipeline_id: int = 0, num_input_pipelines: int = 1
    ) -> tf.data.Dataset:
        """Returns the batches of `data.make_dataset`; the same data set for the same arguments.

        Tracing it takes a second, and pictures and measurements show batches of it, too.
        """
        place = (start_step, input_pipeline_id, num_input_pipelines)
        if place not in self._made:
            self._made[place] = pipeline.make_dataset(
                self._source,
                self.config,
                global_batch_size=self._options.batch_size,
                replica_batch_size=self._replica_batch_size,
                preprocess=None if self.config.colors_on_device else self.preprocess,
                start_step=start_step,
                input_pipeline_id=input_pipeline_id,
                num_input_pipelines=num_input_pipelines,
                broken=self.broken,
                data_service=self._options.data_service,
                cache=self._cache,
            )
        return self._made[place]

    def one_batch(self, step: int) -> Batch:
        """Returns the batch of one replica at a step, as the method sees it."""
        with warn_of_stall(step + 1, STALL_SECONDS):
            batch = next(iter(self.batches(step)))
        return batch if self.device_transform is None else self.device_transform(batch)

    def names(self, step: int) -> list[str]:
        """Returns the names of the images of a step."""
        options = self._options
        return name_images(self._source, options.seed, options.batch_size, step, self.broken.names)

    def whole_images(self) -> np.ndarray | None:
        """Reads a few preprocessed images, spread over the source; None if none can be decoded."""
        size = backbones.fixed_image_size(self._options.backbone) or _WHOLE_SIZE
        chosen = select(self._source, self._source.spread_indices(_NUM_WHOLE))
        batches = image_batches(chosen, size, self.preprocess, _NUM_WHOLE, pass_over_broken=True)
        first = next(iter(batches), None)
        return None if first is None else first[IMAGE].numpy()
