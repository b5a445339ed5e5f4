import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.transforms import photometric


def photo(height=24, width=30, seed=0):
    """Image of integers in 0..255, float32, with smooth and sharp parts."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype("float32")
    return np.round(tf.image.resize(coarse, (height, width)).numpy())


def as_pil(image):
    from PIL import Image

    return Image.fromarray(image.astype(np.uint8))


class ColorTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        name=("Brightness", "Contrast", "Color"), factor=(0.0, 0.4, 1.0, 1.3, 1.8)
    )
    def test_equals_pil(self, name, factor):
        from PIL import ImageEnhance

        ours = {
            "Brightness": photometric.adjust_brightness,
            "Contrast": photometric.adjust_contrast,
            "Color": photometric.adjust_saturation,
        }[name](photo(), factor)
        theirs = np.asarray(getattr(ImageEnhance, name)(as_pil(photo())).enhance(factor))
        # PIL cuts off fractions, and rounds the gray value it turns on, which the factor enlarges.
        self.assertAllClose(ours, theirs.astype("float32"), rtol=0, atol=1.0 + abs(1 - factor))

    @parameterized.parameters(-0.1, -0.02, 0.05, 0.1, 0.4)
    def test_hue_equals_a_loop_over_pixels(self, delta):
        import colorsys

        image = photo(8, 9)
        expected = np.empty_like(image)
        for place in np.ndindex(image.shape[:2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*(image[place] / 255))
            turned = colorsys.hsv_to_rgb((hue + delta) % 1.0, saturation, value)
            expected[place] = np.array(turned) * 255
        self.assertAllClose(photometric.adjust_hue(image, delta), expected, rtol=0, atol=0.01)

    def test_grayscale_equals_pil(self):
        theirs = np.asarray(as_pil(photo()).convert("L"), np.float32)
        self.assertAllClose(photometric.to_grayscale(photo())[..., 0], theirs, rtol=0, atol=0.51)

    def test_solarize_equals_pil(self):
        from PIL import ImageOps

        every = np.arange(256, dtype=np.float32).reshape(16, 16, 1).repeat(3, -1)
        theirs = np.asarray(ImageOps.solarize(as_pil(every), 128), np.float32)
        self.assertAllEqual(photometric.solarize(every), theirs)

    @parameterized.parameters((0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1))
    def test_jitter_takes_its_steps_in_order(self, *order):
        factors = (1.3, 0.7, 1.2, 0.08)
        steps = (
            photometric.adjust_brightness,
            photometric.adjust_contrast,
            photometric.adjust_saturation,
            photometric.adjust_hue,
        )
        expected = tf.constant(photo())
        for kind in order:
            expected = steps[kind](expected, factors[kind])
        ours = photometric.color_jitter(
            tf.constant(photo()), tf.constant(factors), tf.constant(order)
        )
        self.assertAllClose(ours, expected, rtol=0, atol=1e-3)


class BlurTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.1, 0.5, 1.0, 2.0)
    def test_equals_a_loop_over_pixels(self, sigma):
        image = photo(12, 15)
        radius = 6
        offsets = np.arange(-radius, radius + 1)
        weights = np.exp(-(offsets**2) / (2 * sigma**2))
        weights /= weights.sum()
        expected = np.zeros_like(image)
        for row, column in np.ndindex(image.shape[:2]):
            for i, a in zip(offsets, weights, strict=True):
                for j, b in zip(offsets, weights, strict=True):
                    y, x = np.clip(row + i, 0, 11), np.clip(column + j, 0, 14)
                    expected[row, column] += a * b * image[y, x]
        ours = photometric.gaussian_blur(tf.constant(image), tf.constant(sigma), 2.0)
        self.assertAllClose(ours, expected, rtol=0, atol=0.01)

    @parameterized.parameters(0.8, 1.5, 2.0)
    def test_is_near_pils(self, sigma):
        """PIL applies three box filters with the same variance."""
        from PIL import ImageFilter

        image = photo(64, 64)
        theirs = as_pil(image).filter(ImageFilter.GaussianBlur(sigma))
        ours = photometric.gaussian_blur(tf.constant(image), tf.constant(sigma), 2.0)
        error = np.abs(ours - np.asarray(theirs, np.float32))
        self.assertLess(error.mean(), 0.6)
        self.assertLess(error.max(), 4.0)

    def test_keeps_even_areas(self):
        flat = tf.fill((9, 7, 3), 77.0)
        self.assertAllClose(photometric.gaussian_blur(flat, tf.constant(2.0), 2.0), flat)


class ChannelsFirstTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(
        ("contrast", lambda x, axis: photometric.adjust_contrast(x, 1.4, axis)),
        ("saturation", lambda x, axis: photometric.adjust_saturation(x, 0.3, axis)),
        ("hue", lambda x, axis: photometric.adjust_hue(x, 0.07, axis)),
        ("blur", lambda x, axis: photometric.gaussian_blur(x, tf.constant(1.3), 2.0, axis)),
        (
            "jitter",
            lambda x, axis: photometric.color_jitter(
                x, tf.constant([1.2, 0.8, 1.1, -0.05]), tf.constant([3, 1, 0, 2]), axis
            ),
        ),
    )
    def test_equals_channels_last(self, change):
        image = tf.constant(photo())
        planes = change(tf.transpose(image, (2, 0, 1)), 0)
        self.assertAllClose(tf.transpose(planes, (1, 2, 0)), change(image, -1), rtol=0, atol=1e-3)


if __name__ == "__main__":
    tf.test.main()
