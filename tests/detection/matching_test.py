import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.matching import match
from pixpro_keras.detection.sampling import image_noise, sample


def match_by_loop(iou, low, high, with_low_quality):
    """detectron2's Matcher for one image."""
    matches, labels = [], []
    for column in iou.T:
        best = column.argmax()
        value = column[best]
        matches.append(best)
        labels.append(0 if value < low else -1 if value < high else 1)
    if with_low_quality:
        for row in iou:
            for candidate, value in enumerate(row):
                if value == row.max() and value > 0:
                    labels[candidate] = 1
    return matches, labels


class MatchingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0.3, 0.7, True), (0.3, 0.7, False), (0.5, 0.5, False))
    def test_equals_a_loop(self, low, high, with_low_quality):
        rng = np.random.default_rng(0)
        iou = rng.uniform(0, 0.8, (4, 3, 20)).round(1).astype("f")  # rounded: with ties
        num_real = [3, 1, 2, 3]
        is_real = np.arange(3) < np.array(num_real)[:, None]
        matches, labels = match(iou, is_real, low, high, with_low_quality)
        for b, count in enumerate(num_real):
            expected = match_by_loop(iou[b, :count], low, high, with_low_quality)
            self.assertAllEqual(matches[b], expected[0])
            self.assertAllEqual(labels[b], expected[1])

    def test_without_boxes_all_are_negative(self):
        _, labels = match(np.ones((1, 2, 5), "f"), np.zeros((1, 2), bool), 0.3, 0.7, True)
        self.assertAllEqual(labels, np.zeros((1, 5)))

    def test_a_box_that_nothing_touches_has_no_match(self):
        iou = np.array([[[0.0, 0.0, 0.0], [0.2, 0.1, 0.0]]], "f")
        _, labels = match(iou, np.ones((1, 2), bool), 0.3, 0.7, True)
        self.assertAllEqual(labels, [[1, 0, 0]])


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
        indices, is_positive, counts = (x.numpy()[0] for x in sample(labels, noise, 16, 0.25))
        self.assertEqual(indices.shape, (16,))
        self.assertEqual(is_positive.sum(), expected_positive)
        self.assertEqual(counts.sum(), expected_positive + expected_negative)
        self.assertAllEqual(is_positive, np.arange(16) < expected_positive)
        self.assertAllEqual(counts, np.arange(16) < expected_positive + expected_negative)
        self.assertAllEqual(labels[0, indices[is_positive]], np.ones(expected_positive))
        self.assertAllEqual(labels[0, indices[counts & ~is_positive]], np.zeros(expected_negative))
        self.assertLen(set(indices[counts]), counts.sum())

    def test_every_candidate_is_picked_as_often(self):
        labels = np.repeat([[1] * 8 + [0] * 24], 2000, axis=0)
        noise = np.random.default_rng(0).uniform(size=labels.shape).astype("f")
        indices, _, _ = sample(labels, noise, 8, 0.5)
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
