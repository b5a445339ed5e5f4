import math
import sys
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.roi_align import pyramid_roi_align, roi_align

# The package has a function of the module's name.
roi_align_module = sys.modules[roi_align.__module__]


def bilinear(image, y, x):
    """One bilinear sample of `(H, W, C)`, by detectron2's rules."""
    height, width, _ = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(image.shape[2])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
    bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
    return top * (1 - (y - y0)) + bottom * (y - y0)


def oracle(features, boxes, size, ratio):
    """RoIAlign as a loop. A sampling ratio of 0 means one sample per cell of a bin, as in detectron2."""
    result = np.zeros((*boxes.shape[:2], size, size, features.shape[-1]))
    for b, image in enumerate(features):
        for r, (left, top, right, bottom) in enumerate(boxes[b]):
            height, width = (bottom - top) / size, (right - left) / size
            rows, columns = (ratio or math.ceil(x) for x in (height, width))
            for i in range(size):
                for j in range(size):
                    for k in range(rows):
                        for m in range(columns):
                            y = top - 0.5 + (i + (k + 0.5) / rows) * height
                            x = left - 0.5 + (j + (m + 0.5) / columns) * width
                            result[b, r, i, j] += bilinear(image, y, x) / (rows * columns)
    return result


def random_boxes(rng, batch, count, width, height):
    corners = rng.uniform(-1.5, 1.2, size=(batch, count, 2, 2)) * (width, height)
    corners[:, 0] = [[0, 0], [width, height]]  # the whole map
    corners[:, 1] = [[2, 1], [2, 1]]  # no area
    return np.concatenate([corners.min(axis=2), corners.max(axis=2)], axis=2).astype("float32")


class RoiAlignTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (7, 9, 3, 1), (7, 9, 2, 2), (1, 1, 2, 1), (5, 1, 4, 3), (13, 9, 2, 0), (1, 17, 3, 0)
    )
    def test_equals_a_loop(self, height, width, size, ratio):
        rng = np.random.default_rng(0)
        features = rng.normal(size=(2, height, width, 3)).astype("float32")
        boxes = random_boxes(rng, 2, 6, width, height)
        expected = oracle(features, boxes, size, ratio)
        self.assertAllClose(roi_align(features, boxes, size, ratio), expected, atol=1e-5)
        compiled = tf.function(roi_align, jit_compile=True)
        self.assertAllClose(compiled(features, boxes, size, ratio), expected, atol=1e-5)

    def test_boxes_of_several_maps_equal_a_loop(self):
        rng = np.random.default_rng(0)
        maps = [rng.normal(size=(2, *sides, 3)).astype("float32") for sides in ((5, 16), (3, 8))]
        boxes = random_boxes(rng, 2, 8, 16, 5)
        levels = rng.integers(0, 2, (2, 8)).astype("int32")
        expected = np.where(
            levels[..., None, None, None],
            oracle(maps[1], boxes, 3, 0),
            oracle(maps[0], boxes, 3, 0),
        )
        for pool in (pyramid_roi_align, tf.function(pyramid_roi_align, jit_compile=True)):
            self.assertAllClose(pool(maps, boxes, levels, 3), expected, atol=1e-5)

    def test_gradients_of_both_forms_are_equal(self):
        rng = np.random.default_rng(0)
        features = tf.constant(rng.normal(size=(2, 9, 13, 3)).astype("float32"))
        boxes = random_boxes(rng, 2, 6, 13, 9)
        weights = rng.normal(size=(2, 6, 2, 2, 3)).astype("float32")

        def gradient(pool):
            with tf.GradientTape() as tape:
                tape.watch(features)
                loss = tf.reduce_sum(weights * pool(features))
            return tape.gradient(loss, features)

        levels = np.zeros((1, 6), "int32")
        self.assertAllClose(
            gradient(lambda x: roi_align(x, boxes, 2)),
            gradient(lambda x: pyramid_roi_align([x], boxes, levels, 2)),
            atol=1e-5,
        )

    def test_no_boxes(self):
        features = tf.ones((2, 4, 4, 3), tf.bfloat16)
        for pooled in (
            roi_align(features, tf.zeros((2, 0, 4)), 5),
            pyramid_roi_align([features], tf.zeros((2, 0, 4)), tf.zeros((2, 0), tf.int32), 5),
        ):
            self.assertEqual((pooled.shape, pooled.dtype), ((2, 0, 5, 5, 3), tf.bfloat16))

    def test_boxes_in_several_parts(self):
        features = tf.constant(np.random.default_rng(0).normal(size=(1, 4, 4, 1)), "float32")
        boxes = random_boxes(np.random.default_rng(0), 1, 5, 4, 4)
        expected = roi_align(features, boxes, 2)
        with mock.patch.object(roi_align_module, "_LARGEST_PRODUCT", 20):  # two boxes
            self.assertAllClose(roi_align(features, boxes, 2), expected, atol=1e-6)

    def test_gradients_of_many_parts_do_not_add_up_in_16_bits(self):
        rng = np.random.default_rng(0)
        features = tf.constant(rng.normal(size=(1, 6, 6, 2)), "float32")
        boxes = random_boxes(rng, 1, 200, 6, 6)
        weights = np.abs(rng.normal(size=(1, 200, 2, 2, 2))).astype("float32")

        def gradient(dtype):
            x = tf.cast(features, dtype)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(weights * tf.cast(roi_align(x, boxes, 2), "float32"))
            return tf.cast(tape.gradient(loss, x), "float32")

        expected = gradient("float32")
        with mock.patch.object(roi_align_module, "_LARGEST_PRODUCT", 24):  # one box
            error = gradient("bfloat16") - expected
        self.assertLess(np.abs(error).max(), 0.006 * np.abs(expected).max())

    def test_the_whole_map_at_its_own_size_is_the_map(self):
        features = np.random.default_rng(0).normal(size=(1, 6, 6, 2)).astype("float32")
        boxes = np.array([[[0, 0, 6, 6]]], "float32")
        self.assertAllClose(roi_align(features, boxes, 6)[:, 0], features, atol=1e-6)

    @pytest.mark.slow
    def test_gradient_is_numerically_right(self):
        rng = np.random.default_rng(0)
        features = tf.constant(rng.normal(size=(1, 4, 5, 2)))
        boxes = random_boxes(rng, 1, 3, 5, 4)
        weights = tf.constant(rng.normal(size=(1, 3, 2, 2, 2)))
        theoretical, numerical = tf.test.compute_gradient(
            lambda x: tf.reduce_sum(weights * roi_align(x, boxes, 2)), [features]
        )
        self.assertAllClose(theoretical[0], numerical[0], atol=1e-6)

    @parameterized.parameters("float16", "bfloat16")
    def test_keeps_the_dtype(self, dtype):
        features = tf.cast(tf.random.normal((1, 8, 8, 4), seed=0), dtype)
        boxes = tf.constant([[[1.0, 2.0, 6.5, 7.0]]])
        found = roi_align(features, boxes, 3, 2)
        self.assertEqual(found.dtype, dtype)
        expected = roi_align(tf.cast(features, "float32"), boxes, 3, 2)
        self.assertAllClose(tf.cast(found, "float32"), expected, atol=0.05)

    @parameterized.parameters((0, 1, "output_size=0"), (1, -1, "sampling_ratio=-1"))
    def test_bad_arguments(self, size, ratio, message):
        with self.assertRaisesRegex(ValueError, message):
            roi_align(np.zeros((1, 2, 2, 1), "float32"), np.zeros((1, 1, 4)), size, ratio)


if __name__ == "__main__":
    tf.test.main()
