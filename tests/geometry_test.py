import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import geometry
from tests.helpers.tiny_networks import random_batch


def positive_pairs_loop(coord1, coord2, size, threshold):
    """Positive pairs by a loop over cells, with Python floats."""
    height, width = size
    masks = []
    for one, two in zip(coord1.tolist(), coord2.tolist(), strict=True):
        diagonal = max(
            math.hypot((c[2] - c[0]) / width, (c[3] - c[1]) / height) for c in (one, two)
        )
        centers = [
            [
                (
                    c[0] + (c[2] - c[0]) * (j + 0.5) / width,
                    c[1] + (c[3] - c[1]) * (i + 0.5) / height,
                )
                for i in range(height)
                for j in range(width)
            ]
            for c in (one, two)
        ]
        masks.append(
            [
                [float(math.dist(p, q) / diagonal < threshold) for q in centers[1]]
                for p in centers[0]
            ]
        )
    return np.array(masks, "float32")


class CellCentersTest(tf.test.TestCase):
    def test_row_major_centers(self):
        centers = geometry.cell_centers(np.array([[0.0, 0.0, 1.0, 1.0]]), (2, 4))
        self.assertAllClose(centers[0, :4, 0], [0.125, 0.375, 0.625, 0.875])
        self.assertAllClose(centers[0, :, 1], [0.25] * 4 + [0.75] * 4)

    def test_mirrored_view_runs_backwards(self):
        centers = geometry.cell_centers(np.array([[0.8, 0.0, 0.2, 1.0]]), (1, 3))
        self.assertAllClose(centers[0, :, 0], [0.7, 0.5, 0.3])


class PositivePairsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(size=[(7, 7), (3, 5), (4, 1)], threshold=[0.3, 0.7, 1.5])
    def test_equals_a_loop(self, size, threshold):
        rng = np.random.default_rng(1)
        corners = rng.random((20, 2, 2, 2))  # image, view, corner, axis
        low, high = corners.min(2), corners.max(2) + 0.05
        coords = np.concatenate([low, high], axis=-1).astype("float32")
        coords[::3, 0] = coords[::3, 0][:, [2, 1, 0, 3]]  # mirrored
        coords[::5, 1] = coords[::5, 1][:, [2, 1, 0, 3]]
        coords[-1, 0], coords[-1, 1] = (0.0, 0.0, 0.2, 0.2), (0.7, 0.7, 1.0, 1.0)  # no overlap
        expected = positive_pairs_loop(coords[:, 0], coords[:, 1], size, threshold)
        mask = geometry.positive_pairs(coords[:, 0], coords[:, 1], size, threshold)
        self.assertAllEqual(mask, expected)
        self.assertEqual(expected[-1].sum(), 0)
        self.assertGreater(expected.sum(), 0)

    def test_same_view_pairs_each_cell_with_itself(self):
        coord = np.array([[0.1, 0.2, 0.6, 0.7]], "float32")
        self.assertAllEqual(geometry.positive_pairs(coord, coord, (7, 7), 0.7)[0], np.eye(49))

    def test_maps_of_a_single_cell_are_positive_with_little_overlap(self):
        one = np.array([[0.0, 0.0, 0.5, 0.5]], "float32")
        two = np.array([[0.3, 0.3, 0.8, 0.8]], "float32")  # 0.6 diagonals away
        self.assertAllEqual(geometry.positive_pairs(one, two, (1, 1), 0.7), [[[1.0]]])
        share = np.mean(geometry.positive_pairs(one, two, (7, 7), 0.7))
        self.assertAllClose(share, np.mean(positive_pairs_loop(one, two, (7, 7), 0.7)))
        self.assertLess(share, 0.01)

    def test_mirrored_copy_pairs_each_cell_with_its_mirror(self):
        coord = np.array([[0.1, 0.2, 0.6, 0.9]], "float32")
        mask = geometry.positive_pairs(coord, coord[:, [2, 1, 0, 3]], (3, 3), 0.5)
        mirror = np.eye(9).reshape(3, 3, 9)[:, ::-1].reshape(9, 9)
        self.assertAllEqual(mask[0], mirror)

    def test_threshold_must_be_positive(self):
        coord = np.zeros((1, 4), "float32")
        with self.assertRaisesRegex(ValueError, r"`threshold` must be positive.*threshold=0"):
            geometry.positive_pairs(coord, coord, (2, 2), 0)


class CommonBoxesTest(tf.test.TestCase):
    def test_equals_a_loop(self):
        batch = random_batch(32)
        boxes1, boxes2, overlaps = geometry.common_boxes(batch["coord1"], batch["coord2"])
        for b in range(32):
            coords = [batch[name][b].astype("float64") for name in ("coord1", "coord2")]
            sides = [(sorted(c[[0, 2]]), sorted(c[[1, 3]])) for c in coords]
            common = [
                (max(one[0], two[0]), min(one[1], two[1])) for one, two in zip(*sides, strict=True)
            ]
            self.assertEqual(overlaps[b], all(end > start for start, end in common))
            for box, coord in zip((boxes1[b], boxes2[b]), coords, strict=True):
                expected = [0, 0, 1, 1]
                if overlaps[b]:
                    shares = [
                        sorted(
                            (place - coord[k]) / (coord[k + 2] - coord[k]) for place in common[k]
                        )
                        for k in (0, 1)
                    ]
                    expected = [shares[0][0], shares[1][0], shares[0][1], shares[1][1]]
                self.assertAllClose(box, expected, atol=1e-5)

    def test_mirrored(self):
        coord = np.array([[0, 0, 1, 1], [0.7, 0, 0.2, 1]], "float32")
        self.assertAllEqual(geometry.is_mirrored(coord), [False, True])


if __name__ == "__main__":
    tf.test.main()
