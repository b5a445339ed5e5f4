"""PixContrast: pixel-level contrast."""

from typing import ClassVar

import keras
from keras import ops

from pixpro_keras.layers.queue import Queue
from pixpro_keras.losses.pixel import pixel_contrast
from pixpro_keras.methods.moco import enqueue
from pixpro_keras.methods.pixel_method import PixelMethod
from pixpro_keras.ops import cross_replica_concat, replica_index, to_pixels
from pixpro_keras.utils import checks

__all__ = ["NEGATIVES", "PixContrast"]

NEGATIVES = ("image", "batch", "other_images", "queue")


@keras.saving.register_keras_serializable("pixpro_keras")
class PixContrast(PixelMethod):
    """Pixel-level InfoNCE between online and target features, mean of both directions.

    Args:
        backbone: functional model, `(B, H, W, 3) -> (B, h, w, C)`.
        temperature: tau, positive; the paper's best is 0.3.
        use_propagation: whether to use the pixel propagation module; the paper's PixContrast does
            not.
        negatives: `"image"`: the pixels of the same image's other view, as in the paper. `"batch"`:
            those of all images of the global batch. `"other_images"`: the same without the image's own.
            `"queue"`: pixels of earlier batches, one of each image and view, as MoCo keeps images. The last
            three are not in the paper.
        queue_size: keys in the queue, a multiple of the global batch.
        **kwargs: arguments of `PixelMethod`.

    Reference:
        Xie et al., CVPR 2021, arXiv:2011.10043, section 3.1.

    Example:
        ```python
        from pixpro_keras import backbones, methods

        method = methods.PixContrast(backbones.build("resnet18_v1_5"), temperature=0.3, total_steps=100)
        ```
    """

    pixel_bounds: ClassVar = (0.0, None)

    def __init__(
        self,
        backbone: keras.Model,
        temperature: float = 0.3,
        use_propagation: bool = False,
        negatives: str = "image",
        queue_size: int = 65536,
        **kwargs,
    ):
        checks.one_of("negatives", negatives, NEGATIVES)
        super().__init__(backbone, use_propagation=use_propagation, **kwargs)
        if negatives == "queue" and (self.use_fpn or len(self.pixel_levels) > 1):
            raise ValueError(
                "`negatives` of a queue need the pixel loss on one map. Received: "
                f"use_fpn={self.use_fpn}, pixel_levels={self.pixel_levels}."
            )
        self.temperature = checks.positive("temperature", temperature)
        self.negatives = negatives
        self.queue_size = queue_size
        self.queue: Queue | None = None
        if negatives == "queue":
            self.queue = Queue(queue_size, self.out_dim, name="queue")

    def keep(self, maps):
        """Enqueues one pixel of each image; see `PixelMethod`."""
        if self.queue is not None:
            pixels = to_pixels(maps[0])
            # One pixel of each image is enough, since neighbors are similar. Its place changes with the step.
            place = ops.cast(self.step, "int32") % pixels.shape[1]
            enqueue(self.queue, ops.take(pixels, place, axis=1))

    def one_way(self, prediction, target, positives):
        """InfoNCE of the online pixels among the target's; see `PixelMethod`."""
        candidates = image_ids = None
        batch_size, num_pixels, channels = target.shape
        images = ops.arange(batch_size, dtype="int64")
        if self.queue is not None:
            candidates = self.queue.read()
            image_ids = images, -ops.ones(self.queue_size, "int64")
        elif self.negatives != "image":
            keys = ops.stop_gradient(ops.reshape(target, (-1, channels)))
            candidates = cross_replica_concat(keys)
        if self.negatives == "other_images":
            of_candidates = ops.arange(candidates.shape[0], dtype="int64") // num_pixels
            images += ops.cast(replica_index(), "int64") * batch_size
            image_ids = images, of_candidates
        loss = pixel_contrast(
            prediction, target, positives, self.temperature, candidates, image_ids
        )
        return loss / 2  # The paper averages both directions.

    def get_config(self) -> dict:
        """Constructor arguments, the backbone serialized."""
        return super().get_config() | {
            "temperature": self.temperature,
            "negatives": self.negatives,
            "queue_size": self.queue_size,
        }
