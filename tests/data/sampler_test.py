import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data import pipeline
from pixpro_keras.data.broken_images import BrokenImages
from pixpro_keras.data.sampler import Sampler, name_images
from tests.helpers.examples import number_source


def take(sampler, count, start_step=0):
    """Indices of batches."""
    data = sampler.batches(lambda p: {"index": sampler.index(p)}, start_step=start_step)
    return np.array([batch["index"] for batch in data.take(count).as_numpy_iterator()])


class SamplerTest(tf.test.TestCase, parameterized.TestCase):
    def test_the_order_is_that_of_earlier_versions(self):
        # A resumed run goes on in the order in which it began.
        self.assertAllEqual(
            take(Sampler(11, 4, seed=3), 5),
            [[4, 10, 2, 9], [1, 3, 5, 8], [10, 3, 5, 1], [0, 7, 8, 4], [6, 9, 2, 8]],
        )

    def test_later_candidates_are_those_of_earlier_versions(self):
        sampler = Sampler(11, 4, seed=3)
        found = [int(sampler.index(tf.constant(13, tf.int64), attempt)) for attempt in range(8)]
        self.assertEqual(found, [7, 8, 4, 2, 6, 9, 10, 3])

    def test_a_pass_takes_each_image_once(self):
        first, second = np.split(take(Sampler(12, 4, seed=0), 6), 2)
        for one in (first, second):
            self.assertAllEqual(np.sort(one.ravel()), np.arange(12))
        self.assertNotAllEqual(first, second)

    def test_a_later_start_skips_batches(self):
        sampler = Sampler(11, 4, seed=3)
        self.assertAllEqual(take(sampler, 3, start_step=2), take(sampler, 5)[2:])

    @parameterized.parameters((2, 2), (1, 4), (4, 1), (2, 1))
    def test_machines_and_replicas_take_slices_of_the_step(self, machines, replica_batch):
        whole = take(Sampler(11, 4, seed=3), 3)
        per_step = 4 // machines // replica_batch
        parts = [
            take(Sampler(11, 4, 3, replica_batch, machine, machines), 3 * per_step).reshape(3, -1)
            for machine in range(machines)
        ]
        self.assertAllEqual(np.concatenate(parts, axis=1), whole)

    def test_seeds_are_of_the_global_position(self):
        sampler = Sampler(11, 4, 3, input_pipeline_id=1, num_input_pipelines=2)
        data = sampler.batches(lambda p: {"seed": sampler.sample_seed(p)}, start_step=5)
        self.assertAllEqual(next(data.as_numpy_iterator())["seed"], [[3, 22], [3, 23]])

    @parameterized.parameters(
        ({"num_examples": 3}, "a batch of 4 needs more than 3 images"),
        ({"num_input_pipelines": 3}, "`global_batch_size` must be a multiple of 3"),
        ({"replica_batch_size": 3}, "`replica_batch_size` must divide.*4.*3"),
        ({"global_batch_size": 0}, "`global_batch_size` must be positive"),
    )
    def test_bad_sizes(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            Sampler(**({"num_examples": 11, "global_batch_size": 4, "seed": 0} | arguments))


class NamesTest(tf.test.TestCase):
    def test_are_those_of_the_batches(self):
        source = number_source(23, broken=lambda index: tf.equal(index % 5, 3))
        broken = BrokenImages(source, 1.0)
        config = pipeline.DataConfig(8, seed=7, use_xla=False)
        data = pipeline.make_dataset(source, config, global_batch_size=5, broken=broken)
        seen = [[str(label) for label in batch["label"].numpy()] for batch in data.take(12)]
        self.assertNotEmpty(broken.names)
        for step, labels in enumerate(seen):
            self.assertEqual(name_images(source, 7, 5, step, broken.names), labels)


if __name__ == "__main__":
    tf.test.main()
