import numpy as np
import tensorflow as tf

from pixpro_keras.data.transforms import jigsaw


def gradient_image(size=255):
    """Image whose red channel is x / side and green channel is y / side."""
    line = np.linspace(0, 255, size)
    image = np.zeros((size, size, 3))
    image[..., 0], image[..., 1] = line[None, :], line[:, None]
    return np.round(image).astype("uint8")


class JigsawTest(tf.test.TestCase):
    def test_one_patch_from_each_field_in_random_order(self):
        orders = set()
        for number in range(12):
            patches = jigsaw.make_patches(gradient_image(), tf.constant([number, 0]), 224).numpy()
            self.assertEqual(patches.shape, (9, 64, 64, 3))
            centers = patches.mean(axis=(1, 2))[:, :2]
            # The crop's own extent, from its outermost patches.
            low, high = centers.min(axis=0), centers.max(axis=0)
            fields = np.round(2 * (centers - low) / (high - low)).astype(int)
            self.assertLen({tuple(field) for field in fields}, 9)
            orders.add(tuple(map(tuple, fields)))
        self.assertLen(orders, 12)

    def test_sizes_follow_the_views(self):
        self.assertEqual(jigsaw.patch_size(224), 64)
        patches = jigsaw.make_patches(gradient_image(), tf.constant([0, 0]), 96)
        self.assertEqual(patches.shape, (9, 27, 27, 3))

    def test_the_same_seed_gives_the_same_patches(self):
        one, two, other = (
            jigsaw.make_patches(gradient_image(), tf.constant([n, 3]), 112) for n in (5, 5, 6)
        )
        self.assertAllEqual(one, two)
        self.assertNotAllClose(one, other)


if __name__ == "__main__":
    tf.test.main()
