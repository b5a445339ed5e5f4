"""Stateless sampling: the images of a step are a function of seed and step."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Protocol

import numpy as np
import tensorflow as tf

from pixpro_keras.types import Batch, Tensor
from pixpro_keras.utils import checks
from pixpro_keras.utils.autotuning import NUM_THREADS, without_autotuning

# An unreadable image is replaced by another; after this many failures in a row the run stops.
CANDIDATES = 8


def shuffled_index(index: Tensor, pass_number: Tensor, count: Tensor, seed: int) -> Tensor:
    """Shuffles numbers in a new random order in each pass, without a table of them.

    Args:
        index: place in the pass, scalar int64 in [0, count).
        pass_number: number of the pass, scalar int64.
        count: number of elements.
        seed: seed of all orders.

    Returns:
        Scalar int64 in [0, count), different for each place of a pass.

    Example:
        ```python
        import tensorflow as tf
        from pixpro_keras.data.sampler import shuffled_index

        places = tf.range(5, dtype=tf.int64)
        order = [int(shuffled_index(place, tf.constant(0, tf.int64), 5, seed=1)) for place in places]
        assert sorted(order) == [0, 1, 2, 3, 4]
        ```
    """
    order_seed = tf.cast(tf.stack([tf.constant(seed, tf.int64), pass_number]), tf.uint32)
    return tf.random.experimental.index_shuffle(index, order_seed, count - 1)


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Order of a run's images, and the part of it that one machine takes.

    The global stream is the sequence of all steps, with `global_batch_size` positions each. A
    machine takes the same slice of every step, divided into consecutive replica batches. All
    randomness of a sample is a function of the seed and its position, so that any number of
    machines, replicas and threads makes the same global batch, from any step on. A pass takes `N //
    B * B` of the N images in a new random order.

    Attributes:
        num_examples: number of images (N).
        global_batch_size: images per step of all machines together (B).
        seed: seed of order and augmentation.
        replica_batch_size: images in each batch; None is this machine's share of a step.
        input_pipeline_id: number of this machine, from 0.
        num_input_pipelines: number of machines.

    Raises:
        ValueError: if there are fewer images than a batch, or batch sizes do not divide.

    Example:
        ```python
        from pixpro_keras.data import Sampler

        sampler = Sampler(num_examples=10, global_batch_size=4, seed=0)
        data = sampler.batches(lambda position: {"index": sampler.index(position)})
        first, second = data.take(2).as_numpy_iterator()
        assert len({*first["index"], *second["index"]}) == 8
        ```
    """

    num_examples: int
    global_batch_size: int
    seed: int
    replica_batch_size: int | None = None
    input_pipeline_id: int = 0
    num_input_pipelines: int = 1

    def __post_init__(self):
        """Checks the values."""
        checks.positive("global_batch_size", self.global_batch_size)
        if self.num_examples < self.global_batch_size:
            raise ValueError(
                f"a batch of {self.global_batch_size} needs more than {self.num_examples} images"
            )
        if self.global_batch_size % self.num_input_pipelines:
            raise ValueError(
                f"`global_batch_size` must be a multiple of {self.num_input_pipelines} machines. "
                f"Received: {self.global_batch_size}."
            )
        if self.replica_batch_size and self.local_batch_size % self.replica_batch_size:
            raise ValueError(
                f"`replica_batch_size` must divide a machine's {self.local_batch_size} images. "
                f"Received: {self.replica_batch_size}."
            )

    @property
    def local_batch_size(self) -> int:
        """Images per step of this machine."""
        return self.global_batch_size // self.num_input_pipelines

    def position(self, place: Tensor) -> Tensor:
        """Converts a position in this machine's stream to one in the global stream.

        Args:
            place: scalar int64, counted from 0.
        """
        share = self.local_batch_size
        first = self.input_pipeline_id * share
        return place // share * self.global_batch_size + first + place % share

    def index(self, position: Tensor, attempt: Tensor | int = 0) -> Tensor:
        """Index of the image at a position.

        Args:
            position: scalar int64, counted from 0.
            attempt: 0 for the regular image; 1, 2, ... for its replacements, from the same pass.

        Returns:
            Scalar int64 in [0, num_examples).
        """
        total = self.num_examples
        per_pass = total // self.global_batch_size * self.global_batch_size
        pass_number, within = position // per_pass, position % per_pass
        elsewhere = (within + attempt * max(total // CANDIDATES, 1)) % total
        return shuffled_index(elsewhere, pass_number, total, self.seed)

    def sample_seed(self, position: Tensor) -> Tensor:
        """Seed of the random numbers of the sample at a position: `(2,)` int64."""
        return tf.stack([tf.constant(self.seed, tf.int64), position])

    def batches(
        self,
        make_sample: Callable[[Tensor], Batch],
        *,
        start_step: int = 0,
        transform: Callable[[Batch], Batch] | None = None,
        num_parallel_calls: int | None = None,
    ) -> tf.data.Dataset:
        """Makes the endless batches of this machine, from a step on.

        Args:
            make_sample: function of a position to the entries of one sample, in a graph.
            start_step: step of the first batch.
            transform: function applied to whole batches at the end.
            num_parallel_calls: number of threads; None is the number of processors.
        """
        first = start_step * self.local_batch_size
        data = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
        data = data.map(
            lambda place: make_sample(self.position(place)),
            num_parallel_calls=num_parallel_calls or NUM_THREADS,
            deterministic=True,
        )
        size = self.replica_batch_size or self.local_batch_size
        data = data.batch(size, drop_remainder=True)
        if transform is not None:
            # A few at a time, since whole batches need much memory.
            data = data.map(transform, num_parallel_calls=2, deterministic=True)
        return without_autotuning(data)


class NamedExamples(Protocol):
    """Examples with readable names: sources of images, of masks, of boxes."""

    @property
    def num_examples(self) -> int:
        """Number of examples."""

    @property
    def describe(self) -> Callable[[int], str]:
        """Index to name."""


def name_images(
    source: NamedExamples,
    seed: int,
    global_batch_size: int,
    step: int,
    broken: Collection[int] = (),
) -> list[str]:
    """Names the images of a training step, in their order.

    Args:
        source: source of the images.
        seed: seed of the order.
        global_batch_size: images per step of all machines together.
        step: step, counted from 0.
        broken: indices of broken images, which were replaced by others.

    Example:
        ```python
        from pixpro_keras.data import Source, name_images

        source = Source("letters", 5, lambda index: {}, lambda index: "abcde"[index])
        names = name_images(source, seed=0, global_batch_size=4, step=0)
        assert len(set(names)) == 4
        ```
    """
    sampler = Sampler(source.num_examples, global_batch_size, seed)
    names = []
    for position in range(step * global_batch_size, (step + 1) * global_batch_size):
        for attempt in range(CANDIDATES):
            index = int(sampler.index(tf.constant(position, tf.int64), attempt))
            if index not in broken:
                break
        names.append(source.describe(index))
    return names
