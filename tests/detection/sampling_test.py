import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.sampling import image_noise, subsample_labels


class SamplingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        # positives, negatives of 40 -> expected counts of 16 at a share of 0.25
        (10, 30, 4, 12),
        (2, 30, 2, 14),
        (0, 40, 0, 16),
        (10, 5, 4, 5),
        (40, 0, 4, 0),
    )
    def test_counts(self, num_positive, num_negative, expected_positive, expected_negative):
        rng = np.random.default_rng(0)
        labels = np.full(40, -1)
        labels[:num_positive] = 1
        labels[num_positive : num_positive + num_negative] = 0
        labels = rng.permutation(labels)[None]
        noise = rng.uniform(size=(1, 40)).astype("f")
        indices, is_positive, is_valid = (
            x.numpy()[0] for x in subsample_labels(labels, noise, 16, 0.25)
        )
        self.assertEqual(indices.shape, (16,))
        self.assertEqual(is_positive.sum(), expected_positive)
        self.assertEqual(is_valid.sum(), expected_positive + expected_negative)
        self.assertAllEqual(is_positive, np.arange(16) < expected_positive)
        self.assertAllEqual(is_valid, np.arange(16) < expected_positive + expected_negative)
        self.assertAllEqual(labels[0, indices[is_positive]], np.ones(expected_positive))
        self.assertAllEqual(
            labels[0, indices[is_valid & ~is_positive]], np.zeros(expected_negative)
        )
        self.assertLen(set(indices[is_valid]), is_valid.sum())

    def test_every_candidate_is_picked_as_often(self):
        labels = np.repeat([[1] * 8 + [0] * 24], 2000, axis=0)
        noise = np.random.default_rng(0).uniform(size=labels.shape).astype("f")
        indices, _, _ = subsample_labels(labels, noise, 8, 0.5)
        share = np.bincount(indices.numpy().ravel(), minlength=32) / 2000
        self.assertAllClose(share[:8], np.full(8, 0.5), atol=0.05)
        self.assertAllClose(share[8:], np.full(24, 4 / 24), atol=0.05)

    def test_noise_follows_the_images_seed(self):
        seeds = tf.constant([[0, 5], [0, 6], [1, 5]])
        noise = image_noise(seeds, 100, 0).numpy()
        self.assertAllEqual(image_noise(seeds[1:], 100, 0), noise[1:])
        self.assertNotAllClose(image_noise(seeds, 100, 2**20), noise)
        for one in range(3):
            for two in range(one):
                self.assertNotAllClose(noise[one], noise[two])


if __name__ == "__main__":
    tf.test.main()
