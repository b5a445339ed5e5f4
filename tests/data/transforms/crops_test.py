import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from pixpro_keras.data.transforms import crops


def torchvision_box(rng, height, width, area=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """`RandomResizedCrop.get_params` of torchvision, with NumPy's random numbers."""
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w = round(math.sqrt(target * aspect))
        h = round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    w, h = width, height
    if width / height < ratio[0]:
        h = round(w / ratio[0])
    elif width / height > ratio[1]:
        w = round(h * ratio[1])
    return (height - h) // 2, (width - w) // 2, h, w


def draw_boxes(count, height, width, **kwargs):
    def draw(number):
        seed = tf.stack([tf.constant(5, tf.int64), number])
        return tf.stack(crops.random_resized_crop_box(seed, height, width, **kwargs))

    return next(iter(tf.data.Dataset.range(count).map(draw).batch(count))).numpy()


class RandomResizedCropBoxTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((60, 80), (200, 50))
    def test_is_distributed_as_torchvisions(self, height, width):
        count = 4000
        rng = np.random.default_rng(0)
        ours = draw_boxes(count, height, width)
        theirs = np.array([torchvision_box(rng, height, width) for _ in range(count)])
        for name, a, b in (
            ("top", ours[:, 0], theirs[:, 0]),
            ("left", ours[:, 1], theirs[:, 1]),
            ("height", ours[:, 2], theirs[:, 2]),
            ("width", ours[:, 3], theirs[:, 3]),
            ("area", ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]),
            ("ratio", ours[:, 3] / ours[:, 2], theirs[:, 3] / theirs[:, 2]),
        ):
            # Kolmogorov-Smirnov: the distance stays below this in 999 of 1000 equal pairs.
            grid = np.union1d(a, b)
            gap = np.abs(
                np.searchsorted(np.sort(a), grid, "right")
                - np.searchsorted(np.sort(b), grid, "right")
            ).max()
            self.assertLess(gap / count, 1.95 * math.sqrt(2 / count), msg=name)

    @parameterized.parameters((30, 400), (400, 30), (7, 50))
    def test_takes_the_center_when_nothing_fits(self, height, width):
        rng = np.random.default_rng(0)
        area = (1.0, 1.0)
        expected = torchvision_box(rng, height, width, area)
        self.assertAllEqual(
            draw_boxes(5, height, width, area=area), np.tile(np.array(expected), (5, 1))
        )

    @parameterized.parameters((1, 1), (1, 9), (2, 3))
    def test_stays_inside_tiny_images(self, height, width):
        top, left, h, w = draw_boxes(50, height, width).T
        self.assertAllInRange(top, 0, height - 1)
        self.assertAllInRange(left, 0, width - 1)
        self.assertTrue(np.all((h > 0) & (w > 0) & (top + h <= height) & (left + w <= width)))


class CropAndResizeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((100, 130), (31, 40), (24, 90), (1, 1))
    def test_scales_as_pil(self, height, width):
        from PIL import Image

        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (140, 150, 3), np.uint8)
        top, left, size = 17, 11, 32
        ours, _ = crops.crop_and_resize(tf.constant(image), (top, left, height, width), size)
        crop = Image.fromarray(image[top : top + height, left : left + width])
        theirs = np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR), np.float32)
        # PIL rounds after each of the two axes.
        self.assertAllClose(ours, theirs, rtol=0, atol=1.01)

    def test_equals_tensorflows_resize(self):
        image = tf.random.stateless_uniform((57, 91, 3), (1, 2), 0, 256, tf.int32)
        image = tf.cast(image, tf.uint8)
        ours, _ = crops.crop_and_resize(image, (5, 9, 50, 70), 24)
        self.assertAllEqual(ours, tf.image.resize(image[5:55, 9:79], (24, 24), antialias=True))

    def test_coordinates(self):
        image = tf.zeros((11, 21, 3), tf.uint8)
        _, coord = crops.crop_and_resize(image, (2, 5, 4, 6), 8)
        self.assertAllClose(coord, [5 / 20, 2 / 10, 10 / 20, 5 / 10])
        _, coord = crops.crop_and_resize(tf.zeros((1, 1, 3)), (0, 0, 1, 1), 8)
        self.assertAllEqual(coord, [0, 0, 0, 0])


class FlipTest(tf.test.TestCase):
    def test_mirrors_pixels_and_coordinates_together(self):
        image = tf.random.stateless_uniform((4, 5, 3), (0, 0))
        coord = tf.constant([0.1, 0.2, 0.6, 0.7])
        flipped, mirrored = crops.random_flip(image, coord, (0, 1), probability=1.0)
        self.assertAllEqual(flipped, image[:, ::-1])
        self.assertAllEqual(mirrored, tf.constant([0.6, 0.2, 0.1, 0.7]))
        kept, same = crops.random_flip(image, coord, (0, 1), probability=0.0)
        self.assertAllEqual(kept, image)
        self.assertAllEqual(same, coord)

    def test_happens_as_often_as_asked(self):
        def flip(number):
            coord = tf.constant([0.0, 0.0, 1.0, 1.0])
            return crops.random_flip(tf.zeros((1, 1, 3)), coord, tf.stack([3, number]), 0.3)[1]

        coords = next(iter(tf.data.Dataset.range(2000).map(flip).batch(2000)))
        self.assertAllClose(np.mean(coords[:, 0] == 1), 0.3, atol=0.04)


class PaintedPixelTest(tf.test.TestCase):
    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_lands_where_the_coordinates_say(self, data):
        """A bright pixel of the source is the brightest place of both views, where it is in both."""
        height, width = (data.draw(st.integers(20, 70), label=name) for name in "HW")
        row = data.draw(st.integers(0, height - 1), label="row")
        column = data.draw(st.integers(0, width - 1), label="column")
        number = data.draw(st.integers(0, 2**31), label="seed")
        flips = data.draw(st.tuples(st.booleans(), st.booleans()), label="flips")
        painted = np.zeros((height, width, 3), np.uint8)
        painted[row, column] = 255
        size = 64
        for view, is_flipped in enumerate(flips):
            box = crops.random_resized_crop_box((view, number), height, width, area=(0.3, 1.0))
            image, coord = crops.crop_and_resize(tf.constant(painted), box, size)
            image, coord = crops.random_flip(image, coord, (view, 0), float(is_flipped))
            x1, y1, x2, y2 = coord.numpy()
            self.assertEqual(x1 > x2, is_flipped)
            light = image.numpy().sum(-1)
            top, left, h, w = (int(value) for value in box)
            if not (top <= row < top + h and left <= column < left + w):
                self.assertEqual(light.max(), 0)
                continue
            # Center of gravity of the light, as a share of the view, against that of the pixel
            # between the centers of the first and last pixel of the crop.
            place = (np.arange(size) + 0.5) / size
            x, y = (light.sum(axis) @ place / light.sum() for axis in (0, 1))
            source_x, source_y = column / (width - 1), row / (height - 1)
            # A pixel's extent: the coordinates join the centers of the outermost pixels, a
            # view shows these pixels whole.
            self.assertAllClose(x1 + (x2 - x1) * x, source_x, atol=1.0 / (width - 1))
            self.assertAllClose(y1 + (y2 - y1) * y, source_y, atol=1.0 / (height - 1))


if __name__ == "__main__":
    tf.test.main()
