import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.segmentation.sliding_window import sliding_window_inference, window_starts


class SlidingWindowTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (10, 10, 4, [0]), (10, 4, 4, [0, 4, 6]), (12, 4, 4, [0, 4, 8]), (11, 4, 3, [0, 3, 6, 7])
    )
    def test_windows_cover_the_axis(self, length, window, stride, expected):
        self.assertEqual(window_starts(length, window, stride), expected)

    def test_one_window_is_the_whole_image(self):
        image = np.random.default_rng(0).normal(size=(6, 6, 3)).astype("float32")
        found = sliding_window_inference(lambda x: 2 * x, tf.constant(image), 6, 4)
        self.assertAllClose(found, 2 * image, atol=1e-6)

    def test_pixelwise_networks_do_not_see_the_windows(self):
        image = np.random.default_rng(0).normal(size=(9, 5, 3)).astype("float32")
        for window, stride, batch_size in ((4, 3, 1), (4, 1, 5), (7, 5, 2), (12, 12, 8)):
            found = sliding_window_inference(
                lambda x: x, tf.constant(image), window, stride, batch_size
            )
            self.assertAllClose(found, image, atol=1e-6)

    def test_overlaps_are_averaged(self):
        # Where in its window a pixel lies.
        def predict(windows):
            return tf.range(4.0)[None, None, :, None] + 0 * windows[..., :1]

        found = sliding_window_inference(predict, tf.zeros((4, 6, 3)), 4, 2)
        alone = np.arange(4.0)
        expected = [*alone[:2], *((alone[2:] + alone[:2]) / 2), *alone[2:]]
        self.assertAllClose(found[0, :, 0], expected, atol=1e-6)

    def test_small_images_are_padded_with_a_color(self):
        seen = []

        def predict(windows):
            seen.append(windows.numpy())
            return windows

        color = [0.5, -1.0, 2.0]
        image = np.random.default_rng(0).normal(size=(3, 6, 3)).astype("float32")
        for padding, expected in (({}, 0.0), ({"padding": tf.constant(color)}, color)):
            found = sliding_window_inference(predict, tf.constant(image), 4, 4, 2, **padding)
            self.assertAllClose(found, image, atol=1e-6)
            self.assertAllClose(seen.pop()[:, 3], np.broadcast_to(expected, (2, 4, 3)))

    def test_images_that_need_no_padding_are_not_rounded(self):
        image = np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
        found = sliding_window_inference(lambda x: x, tf.constant(image), 4, 2, padding=100.0)
        self.assertAllEqual(found, image)

    def test_bad_stride(self):
        with self.assertRaisesRegex(ValueError, "stride=5"):
            sliding_window_inference(lambda x: x, tf.zeros((4, 4, 3)), 4, 5)


if __name__ == "__main__":
    tf.test.main()
