import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.evaluation.replicas import over_replicas
from tests.helpers.replicas import two_cpus
from tests.helpers.tiny_networks import tiny_backbone


class OverReplicasTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1, 3, 4, 9)
    def test_two_replicas_equal_one(self, rows):
        images = np.random.default_rng(0).normal(size=(rows, 16, 16, 3)).astype("float32")
        strategy = two_cpus()
        with strategy.scope():
            keras.utils.set_random_seed(0)
            mirrored = tiny_backbone(synchronized=True)
        keras.utils.set_random_seed(0)
        single = tiny_backbone()
        expected = single(images, training=False)
        for backbone, where in ((mirrored, strategy), (single, None)):
            run = over_replicas(lambda x, b=backbone: b(x, training=False), 5, where)
            self.assertAllClose(run(tf.constant(images)), expected, atol=1e-6)

    def test_each_replica_has_its_rows(self):
        shapes = []

        def double(rows):
            shapes.append(rows.shape)
            return 2 * rows

        run = over_replicas(double, 5, two_cpus())
        self.assertAllEqual(run(tf.range(4)), [0, 2, 4, 6])
        self.assertAllEqual(run(tf.range(5)), [0, 2, 4, 6, 8])
        self.assertEqual({tuple(shape) for shape in shapes}, {(3,)})

    def test_the_first_batch_gives_the_size(self):
        shapes = []

        def double(rows):
            shapes.append(rows.shape)
            return 2 * rows

        run = over_replicas(double)
        self.assertAllEqual(run(tf.range(3)), [0, 2, 4])
        self.assertAllEqual(run(tf.range(2)), [0, 2])
        self.assertEqual({tuple(shape) for shape in shapes}, {(3,)})


if __name__ == "__main__":
    tf.test.main()
