import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.transforms import rand_augment
from tests.data.transforms.photometric_test import as_pil, photo

FILL = (124, 116, 104)


def pil_affine(image, rows):
    from PIL import Image

    size, numbers = image.shape[1::-1], [float(number) for row in rows for number in row]
    moved = as_pil(image).transform(
        size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR, fillcolor=FILL
    )
    return np.asarray(moved, "float32")


def inside(image, margin=1):
    """PIL does not blend the border with what lies beyond."""
    return image[margin:-margin, margin:-margin]


class ChangesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("autocontrast", "equalize")
    def test_histograms_equal_pils(self, name):
        from PIL import ImageOps

        image = np.round(40 + 0.5 * photo())
        ours = {"autocontrast": rand_augment.auto_contrast, "equalize": rand_augment.equalize}[name]
        theirs = np.asarray(getattr(ImageOps, name)(as_pil(image)), "float32")
        self.assertAllClose(ours(image), theirs, atol=1.0)

    def test_flat_channels_stay(self):
        image = np.tile(np.array([7, 200, 255], "float32"), (5, 6, 1))
        self.assertAllEqual(rand_augment.auto_contrast(image), image)
        self.assertAllEqual(rand_augment.equalize(image), image)

    @parameterized.parameters(1, 3, 4)
    def test_posterize_equals_pil(self, bits):
        from PIL import ImageOps

        theirs = np.asarray(ImageOps.posterize(as_pil(photo()), bits), "float32")
        self.assertAllEqual(rand_augment.posterize(photo(), bits), theirs)

    @parameterized.parameters(0.1, 1.0, 1.9)
    def test_sharpness_equals_pil(self, factor):
        from PIL import ImageEnhance

        theirs = np.asarray(ImageEnhance.Sharpness(as_pil(photo())).enhance(factor), "float32")
        self.assertAllClose(rand_augment.adjust_sharpness(photo(), factor), theirs, atol=1.5)

    def test_solarize_add(self):
        image = np.array([[[0, 100, 127], [128, 200, 255]]], "float32")
        expected = [[[110, 210, 237], [128, 200, 255]]]
        self.assertAllEqual(rand_augment.solarize_add(image, 110.0), expected)

    @parameterized.parameters(
        ((1, 0.3, 0), (0, 1, 0)), ((1, 0, 0), (-0.2, 1, 0)), ((1, 0, 7), (0, 1, -3))
    )
    def test_affine_equals_pil(self, *rows):
        ours, theirs = rand_augment.affine(photo(), rows).numpy(), pil_affine(photo(), rows)
        # The line along which the image ends is blended with the fill here.
        self.assertLess(np.mean(np.abs(inside(ours) - inside(theirs)) > 2), 0.06)

    @parameterized.parameters(-30.0, 12.0)
    def test_rotation_equals_pil(self, degrees):
        from PIL import Image

        theirs = as_pil(photo()).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=FILL)
        ours = rand_augment.rotate(photo(), degrees).numpy()
        self.assertLess(np.mean(np.abs(ours - np.asarray(theirs, "float32")) > 2), 0.08)


class RandAugmentTest(tf.test.TestCase):
    def augment(self, count, **kwargs):
        image = tf.constant(photo(16, 16))

        def change(number):
            return rand_augment.rand_augment(image, tf.stack([number, 1]), **kwargs)

        return next(iter(tf.data.Dataset.range(count).map(change).batch(count))).numpy()

    def test_every_change_occurs_and_half_are_left_out(self):
        images = self.augment(600, num_changes=1)
        is_same = np.abs(images - photo(16, 16)).max(axis=(1, 2, 3)) < 1e-3
        # Half are left out; solarize at full strength changes nothing but the brightest values.
        self.assertAllClose(is_same.mean(), 0.5, atol=0.08)
        changed = {image.tobytes() for image in images[~is_same]}
        self.assertGreater(len(changed), 30)
        self.assertAllInRange(images, 0.0, 255.0)

    @pytest.mark.slow
    def test_the_same_seed_gives_the_same_pixels(self):
        self.assertAllEqual(self.augment(20), self.augment(20))
        for number, (name, change) in enumerate(rand_augment.CHANGES.items()):
            changed = change(tf.constant(photo(16, 16)), tf.constant(0.9), tf.constant(-1.0))
            self.assertEqual(changed.shape, (16, 16, 3), f"{number}: {name}")
            self.assertNotAllClose(changed, photo(16, 16), msg=name)


if __name__ == "__main__":
    tf.test.main()
