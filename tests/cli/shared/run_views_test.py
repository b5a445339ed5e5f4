import time
from unittest import mock

import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.cli.shared import run_views
from pixpro_keras.cli.shared.run_views import RunViews
from pixpro_keras.data import DataConfig, Source


class RunViewsTest(tf.test.TestCase):
    def views(self, colors_on_device=False, seconds=0.0, **values):
        def read(index):
            if seconds:
                tf.numpy_function(lambda: np.int64(time.sleep(seconds) or 0), [], tf.int64)
            image = tf.fill((40, 40, 3), tf.cast(20 * index, tf.uint8))
            return {"image": tf.io.encode_png(image), "label": tf.constant(-1)}

        source = Source("grays", 8, read, lambda index: f"gray {index}")
        options = PretrainOptions.make(
            dataset="folder:grays",
            workdir="run",
            image_size=32,
            batch_size=4,
            **values,
        )
        config = DataConfig(32, use_xla=False, colors_on_device=colors_on_device)
        return RunViews(options, source, config, replica_batch_size=4)

    def test_a_data_set_is_traced_once(self):
        views = self.views()
        again = views.batches(start_step=2, input_pipeline_id=0, num_input_pipelines=1)
        self.assertIs(views.batches(2), again)
        self.assertIsNot(views.batches(0), again)

    def test_images_are_kept_where_their_batches_are_made(self):
        views = self.views()
        views.plan_cache()
        views.one_batch(0)
        self.assertGreaterEqual(views._cache.num_images(), 4)
        views = self.views(data_service="host:5050")
        views.plan_cache()
        self.assertIsNone(views._cache)

    def test_one_batch_has_all_augmentation_wherever_it_is_done(self):
        host, device = (self.views(on_device).one_batch(1) for on_device in (False, True))
        self.assertEqual(host.keys(), device.keys())
        for name, value in host.items():
            self.assertAllClose(value, device[name], atol=1e-2, rtol=1e-3, msg=name)

    def test_a_long_wait_for_a_batch_is_told(self):
        views = self.views(seconds=0.1)
        with mock.patch.object(run_views, "STALL_SECONDS", 0.02), self.assertLogs() as logged:
            views.one_batch(1)
        self.assertIn("Waiting for the images of step 2", logged.output[0])

    def test_names_are_those_of_the_step(self):
        views = self.views()
        names = [name for step in (0, 1) for name in views.names(step)]
        self.assertCountEqual(names, [f"gray {index}" for index in range(8)])

    def test_whole_images_are_preprocessed(self):
        images = self.views().whole_images()
        self.assertEqual(images.shape, (4, 384, 384, 3))
        self.assertAllClose(np.ptp(images, axis=(1, 2)), np.zeros((4, 3)), atol=1e-4)
        self.assertLess(images[0].max(), 0)  # RGB in 0..255 is centered.


if __name__ == "__main__":
    tf.test.main()
