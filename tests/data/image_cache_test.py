import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data import pipeline, sources
from pixpro_keras.data.image_cache import ImageCache, plan_image_cache
from pixpro_keras.data.sources import Source
from pixpro_keras.utils.memory import machine_mib
from tests.helpers.jobs import write_photos

CONFIG = pipeline.DataConfig(16, "supervised", num_views=1, seed=3, max_broken_share=0.5)


def black_source(count=5, side=512):
    def read(index):
        del index
        return {"image": tf.io.encode_png(tf.zeros((side, side, 3), tf.uint8)), "label": -1}

    return Source("black", count, read, str)


class ImageCacheTest(tf.test.TestCase, parameterized.TestCase):
    def batches(self, source, cache, **kwargs):
        data = pipeline.make_dataset(source, CONFIG, global_batch_size=5, cache=cache, **kwargs)
        return [{key: value.numpy() for key, value in batch.items()} for batch in data.take(6)]

    @parameterized.named_parameters(("all", 1.0, 9), ("some", 0.0125, 2))
    def test_batches_are_the_same_with_a_cache_that_holds(self, max_mib, num_images):
        folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(folder, count=10)
        (folder / "2.jpg").write_bytes(b"not an image")
        source = sources.open_source(f"folder:{folder}")
        cache = ImageCache(max_mib)
        without, kept = self.batches(source, None), self.batches(source, cache)
        self.assertEqual(cache.num_images(), num_images)
        for one, two in zip(without, kept, strict=True):
            for key in one:
                self.assertAllEqual(one[key], two[key], msg=key)

    def test_an_image_is_read_once(self):
        reads = []

        def read(index):
            reads.append(int(index))
            return tf.fill((4, 6, 3), tf.cast(index, tf.uint8)), tf.cast(-index, tf.int32)

        cache = ImageCache(1)
        for index in (3, 7, 3, 7):
            image, label = cache.read(tf.constant(index, tf.int64), read)
            self.assertAllEqual(image, np.full((4, 6, 3), index))
            self.assertEqual(int(label), -index)
        self.assertEqual(reads, [3, 7])

    def test_a_set_that_does_not_fit_is_not_kept_and_that_is_said(self):
        source = black_source(count=1 << 30)
        with self.assertLogs("absl", "INFO") as logs:
            self.assertIsNone(plan_image_cache(source, 0.5))
        self.assertIn("black: 1073741824 decoded images take about 805,306,368 MiB", logs.output[0])
        self.assertIn(f"more than 50% of the memory, {machine_mib() / 2:,.0f} MiB", logs.output[0])

    def test_a_set_that_fits_is_kept_and_that_is_said(self):
        with self.assertLogs("absl", "INFO") as logs:
            self.assertIsNotNone(plan_image_cache(black_source(), 0.5))
        self.assertIn("black: 5 decoded images take about 4 MiB, within 50%", logs.output[0])

    def test_no_share_is_no_cache(self):
        self.assertIsNone(plan_image_cache(black_source(), 0.0))


if __name__ == "__main__":
    tf.test.main()
