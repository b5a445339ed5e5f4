import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.fpn import FPN
from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.methods import Encoder
from pixpro_keras.visualize import run_pictures
from pixpro_keras.visualize.figures import new_figure
from pixpro_keras.visualize.run_pictures import RunPictures
from tests.helpers.tiny_networks import random_batch, tiny_backbone, tiny_pyramid_backbone


class RunPicturesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(False, True)
    @pytest.mark.slow
    def test_leaves_pictures_and_summaries(self, is_pyramid):
        workdir = pathlib.Path(self.create_tempdir().full_path)
        head = {"pixel": PointwiseMLP(8, 8)}
        if is_pyramid:
            encoder = Encoder(tiny_pyramid_backbone(), {}, FPN(8), head)
        else:
            encoder = Encoder(tiny_backbone(), head)
        pictures = RunPictures(
            workdir,
            random_batch(4, image_size=64),
            encoder,
            lambda x: x,
            every_steps=2,
            threshold=0.7,
        )
        pictures.on_train_begin({"step": 0.0})
        for step in (1.0, 2.0, 3.0):
            pictures.on_train_batch_end(0, {"step": step})
        pictures.on_train_end({"step": 3.0})

        names = sorted(path.name for path in (workdir / "pictures").iterdir())
        steps = [f"similarity_{step:07d}.png" for step in (0, 2, 3)]
        self.assertEqual(names, ["correspondences.png", *steps])
        for name in names:
            png = (workdir / "pictures" / name).read_bytes()
            self.assertGreater(np.std(tf.io.decode_png(png, channels=3)), 10)
        (events,) = workdir.glob("events.*")
        tags = {
            (event.step, value.tag)
            for event in tf.compat.v1.train.summary_iterator(str(events))
            for value in event.summary.value
        }
        self.assertEqual(
            tags, {(0, "correspondences"), (0, "similarity"), (2, "similarity"), (3, "similarity")}
        )

    def test_step_0_has_the_batch_norm_of_its_images(self):
        inputs = keras.Input((None, None, 3))
        # Without batch norm all cells are alike.
        x = keras.layers.Conv2D(8, 4, strides=4)(inputs) + 100.0
        encoder = Encoder(keras.Model(inputs, keras.layers.BatchNormalization()(x)), {})
        weights = [array.copy() for array in encoder.get_weights()]
        folder = self.create_tempdir().full_path
        pictures = RunPictures(folder, random_batch(4, image_size=16), encoder, lambda x: x, 1, 0.7)
        with mock.patch.object(run_pictures, "draw_before_after") as draw:
            draw.return_value = new_figure(1, 1)
            pictures.on_train_begin({"step": 0.0})
        (features,) = draw.call_args[0][1].values()
        self.assertAllClose(features.mean(axis=(0, 1, 2)), np.zeros(8), atol=1e-3)
        self.assertIn("untrained", draw.call_args[1]["note"])
        self.assertAllEqual(encoder.get_weights()[-1], weights[-1])

    def test_features_that_are_not_finite_do_not_end_the_run(self):
        workdir = pathlib.Path(self.create_tempdir().full_path)
        encoder = Encoder(tiny_backbone(), {"pixel": PointwiseMLP(8, 8)})
        batch = random_batch(4, image_size=64)
        pictures = RunPictures(workdir, batch, encoder, lambda x: x, every_steps=1, threshold=0.7)
        pictures.on_train_begin({"step": 0})
        for weight in encoder.backbone.trainable_weights:
            weight.assign(tf.fill(weight.shape, float("inf")))
        pictures.on_train_batch_end(0, {"step": 1})
        # All cells of the first state are finite, none of this one.
        self.assertTrue((workdir / "pictures" / "similarity_0000001.png").exists())
        pictures = RunPictures(workdir, batch, encoder, lambda x: x, every_steps=1, threshold=0.7)
        with self.assertLogs("absl", "WARNING") as logs:
            pictures.on_train_batch_end(0, {"step": 2})
        self.assertIn("No picture of step 2: `features` must have", logs.output[0])

    def test_pictures_in_a_folder_that_cannot_be(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        (folder / "pictures").write_text("a file")
        rng = np.random.default_rng(0)
        views = {f"view{i}": rng.random((2, 16, 16, 3)).astype("float32") for i in (1, 2)}
        coords = {f"coord{i}": np.array([[0, 0, 1, 1]] * 2, "float32") for i in (1, 2)}

        encoder = Encoder(tiny_backbone(), {})
        pictures = RunPictures(folder, views | coords, encoder, lambda x: x, 1, 0.7)
        with self.assertLogs("absl", "WARNING") as logs:
            pictures.on_train_begin({"step": 0})
            pictures.on_train_batch_end(0, {"step": 1})
        self.assertIn("A picture cannot be written, the run continues", logs.output[0])
        self.assertNotEmpty(list(folder.glob("events.out.tfevents.*")))


if __name__ == "__main__":
    tf.test.main()
