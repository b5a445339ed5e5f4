from unittest import mock

import numpy as np
import tensorflow as tf

from pixpro_keras.detection import instance_masks


def ellipse(height=60, width=80):
    y, x = np.mgrid[:height, :width] + 0.5
    return ((x - 40) / 25) ** 2 + ((y - 30) / 18) ** 2 < 1


class MasksTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.mask = ellipse()
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        self.box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], "f")

    def test_forms_of_the_same_mask(self):
        from pycocotools import mask as coco

        packed = instance_masks.to_rle(self.mask)
        columns = self.mask.T.ravel()  # run lengths, zeros first
        ends = np.flatnonzero(np.diff(columns)) + 1
        plain = {"size": [60, 80], "counts": np.diff([0, *ends, columns.size]).tolist()}
        for form in (packed, plain, packed | {"counts": packed["counts"].encode()}):
            self.assertAllEqual(instance_masks.decode(form, 60, 80), self.mask)
        self.assertEqual(coco.area(packed), self.mask.sum())

    def test_crop_of_a_polygon_equals_that_of_its_mask(self):
        polygon = [[10, 10, 50, 10, 50, 20, 30, 20, 30, 40, 10, 40]]
        box = np.array([10, 10, 50, 40], "f")
        direct = instance_masks.crop(polygon, box, 60, 80)
        by_mask = instance_masks.crop(
            instance_masks.to_rle(instance_masks.decode(polygon, 60, 80)), box, 60, 80
        )
        self.assertEqual(direct.shape, (112, 112))
        self.assertLess(np.mean(direct != by_mask), 0.03)
        self.assertAllClose(direct.mean(), (40 * 10 + 20 * 20) / (40 * 30), atol=0.02)

    def test_a_polygon_far_larger_than_its_box_is_drawn_at_the_image_s_size(self):
        polygon, box = [[10, 10, 50, 10, 50, 40, 10, 40]], np.array([10, 20, 10.00001, 50], "f")
        draw = instance_masks.decode
        with mock.patch.object(instance_masks, "decode", wraps=draw) as drawn:
            crop = instance_masks.crop(polygon, box, 60, 80)
        drawn.assert_called_once_with(polygon, 60, 80)
        rows = np.arange(112) < 112 * 20 / 30
        self.assertAllEqual(crop, np.repeat(rows[:, None], 112, axis=1))

    def test_paste_is_the_inverse_of_crop(self):
        for segmentation in (instance_masks.to_rle(self.mask),):
            crop = instance_masks.crop(segmentation, self.box, 60, 80)
            pasted = instance_masks.paste(crop.astype(float), self.box, 60, 80)
            common = (pasted & self.mask).sum() / (pasted | self.mask).sum()
            self.assertGreater(common, 0.97)

    def test_paste_of_a_box_outside_the_image_is_empty(self):
        box = np.array([20.0, 3.0, 30.0, 9.0])
        self.assertFalse(instance_masks.paste(np.ones((5, 5)), box, 12, 12).any())

    def test_paste_equals_a_loop(self):
        rng = np.random.default_rng(0)
        mask, (x1, y1, x2, y2) = rng.random((5, 5)), (2.3, -1.5, 13.1, 9.0)
        padded = np.pad(mask, 1)
        expected = np.zeros((12, 12))
        for row in range(12):
            for column in range(12):
                y = np.clip((row + 0.5 - y1) / (y2 - y1) * 5 + 0.5, 0, 6)
                x = np.clip((column + 0.5 - x1) / (x2 - x1) * 5 + 0.5, 0, 6)
                i, j = min(int(y), 5), min(int(x), 5)
                top = padded[i, j] * (1 - x + j) + padded[i, j + 1] * (x - j)
                low = padded[i + 1, j] * (1 - x + j) + padded[i + 1, j + 1] * (x - j)
                expected[row, column] = top * (1 - y + i) + low * (y - i)
        for threshold in (0.2, 0.5, 0.8):
            pasted = instance_masks.paste(mask, np.array([x1, y1, x2, y2]), 12, 12, threshold)
            self.assertAllEqual(pasted, expected >= threshold)


if __name__ == "__main__":
    tf.test.main()
