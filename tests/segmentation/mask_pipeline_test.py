import numpy as np
import tensorflow as tf

from pixpro_keras.segmentation import mask_pipeline


class MakeCropTest(tf.test.TestCase):
    def crop(self, number, size=24, scales=(0.5, 2.0)):
        # Red and green say the class, so that image and mask can be compared at every pixel.
        mask = np.zeros((30, 40), "int32")
        mask[10:, 12:] = 1
        image = np.stack([200 * mask, 200 * (1 - mask), 0 * mask], -1).astype("uint8")
        config = mask_pipeline.CropConfig(size, scales, use_xla=False)
        crop = mask_pipeline.make_crop(image, mask, tf.constant([number, 0]), config)
        return crop["image"].numpy(), crop["mask"].numpy()

    def test_image_and_mask_stay_together(self):
        flipped = set()
        for number in range(30):
            image, mask = self.crop(number)
            self.assertEqual((image.shape, mask.shape), ((24, 24, 3), (24, 24)))
            self.assertAllInSet(mask, [0, 1, 255])
            # Inside, where no neighbour is of another class.
            inner = tf.nn.max_pool2d(mask[None, ..., None].astype("f"), 3, 1, "SAME")[0, ..., 0]
            outer = -tf.nn.max_pool2d(-mask[None, ..., None].astype("f"), 3, 1, "SAME")[0, ..., 0]
            sure = (inner == outer).numpy() & (mask != 255)
            is_red = image[..., 0] > image[..., 1]
            colorful = np.ptp(image, axis=-1) > 20
            agree = (is_red == (mask == 1))[sure & colorful]
            self.assertGreater(agree.mean() if agree.size else 1, 0.95)
            rows = mask[(mask == 1).any(axis=1) & (mask == 0).any(axis=1)]
            if len(rows):
                ones = np.flatnonzero(rows[0] == 1).mean()
                flipped.add(bool(ones < np.flatnonzero(rows[0] == 0).mean()))
        self.assertEqual(flipped, {False, True})

    def test_what_is_beyond_the_image_does_not_count(self):
        _, mask = self.crop(0, size=64, scales=(0.5, 0.5))
        self.assertEqual((mask != 255).sum(), 15 * 20)

    def test_the_same_seed_gives_the_same_crop(self):
        for one, two in zip(self.crop(3), self.crop(3), strict=True):
            self.assertAllEqual(one, two)


if __name__ == "__main__":
    tf.test.main()
