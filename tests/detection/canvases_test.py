import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.detection.box_pipeline import scaled_size
from pixpro_keras.detection.canvases import fitting_canvas, plan_canvases, scaled_sides

SIDES = (48, 56, 64, 72, 80)
MAX_SIDE = 133


def photographs(count, rng):
    """Sizes like those of COCO, a tenth as long: mostly 4:3 and 3:2, three of four wide."""
    long = np.full(count, 64)
    short = rng.choice([48, 43, 36, 64], count, p=[0.5, 0.35, 0.1, 0.05])
    sizes = np.stack([short, long], axis=1)
    is_high = rng.random(count) < 0.25
    sizes[is_high] = sizes[is_high, ::-1]
    return sizes


class CanvasesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.sizes = photographs(400, np.random.default_rng(0))

    @parameterized.parameters(1, 2, 5, 12)
    def test_all_images_fit_at_all_scales(self, num_canvases):
        canvases = plan_canvases(self.sizes, SIDES, MAX_SIDE, num_canvases, smallest=16)
        self.assertLessEqual(len(canvases.sizes), num_canvases)
        self.assertAllEqual(canvases.sizes % 32, np.zeros_like(canvases.sizes))
        self.assertAllEqual(np.sort(np.concatenate(canvases.groups)), np.arange(400))
        shares = []
        for group, numbers in zip(canvases.groups, canvases.numbers, strict=True):
            self.assertGreaterEqual(len(group), 16)
            for side, number in zip(SIDES, numbers, strict=True):
                scaled, _ = scaled_size(self.sizes[group], side, MAX_SIDE)
                self.assertAllLessEqual(scaled - canvases.sizes[number], 0)
                areas = scaled.numpy().prod(axis=1)
                shares.extend(1 - areas / canvases.sizes[number].prod())
            # Scales of a canvas follow each other.
            self.assertAllGreaterEqual(np.diff(canvases.sizes[numbers].prod(axis=1)), 0)
        self.assertAllClose(canvases.padding, np.mean(shares))

    def test_more_canvases_pad_less(self):
        padding = [plan_canvases(self.sizes, SIDES, MAX_SIDE, n).padding for n in (1, 2, 4, 8, 12)]
        self.assertAllLess(np.diff(padding), 0)

    def test_wide_and_high_images_are_apart(self):
        canvases = plan_canvases(self.sizes, SIDES, MAX_SIDE, 2)
        is_high = [self.sizes[group, 0] > self.sizes[group, 1] for group in canvases.groups]
        self.assertEqual([np.unique(one).tolist() for one in is_high], [[True], [False]])

    def test_a_small_group_joins_the_other(self):
        sizes = np.array([(40, 60)] * 6 + [(60, 40)] * 3)
        self.assertLen(plan_canvases(sizes, (48,), 1000, smallest=4).groups, 1)
        self.assertLen(plan_canvases(sizes, (48,), 1000, smallest=3).groups, 2)
        self.assertEqual(fitting_canvas(sizes, 48, 1000), (96, 96))

    def test_too_few_images(self):
        with self.assertRaisesRegex(ValueError, "a batch of 5 needs more than 4 images"):
            plan_canvases(self.sizes[:4], SIDES, MAX_SIDE, smallest=5)

    def test_sizes_are_those_of_the_pipeline(self):
        rng = np.random.default_rng(0)
        sizes = rng.integers(1, 700, (2000, 2))
        for side in (480, 800):
            scaled, _ = scaled_size(sizes, side, 1333)
            self.assertAllEqual(scaled_sides(sizes, side, 1333), scaled)


if __name__ == "__main__":
    tf.test.main()
