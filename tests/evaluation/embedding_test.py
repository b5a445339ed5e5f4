import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.data.broken_images import BrokenImagesError
from pixpro_keras.data.decoding import decode
from tests.helpers.jobs import write_photos


class EmbedTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        for seed, name in enumerate(("cats", "dogs")):
            write_photos(self.folder / "photos" / name, count=3, size=64, seed=seed)
        self.network = backbones.build("resnet10_v1_5")

    def test_vectors_are_pooled_features_with_names_and_labels(self):
        embeddings = pixpro_keras.embed(
            self.folder / "photos", self.network, image_size=56, batch_size=4
        )
        self.assertEqual(embeddings.class_names, ("cats", "dogs"))
        self.assertAllEqual(embeddings.labels, [0, 0, 0, 1, 1, 1])
        self.assertEqual(embeddings.names[3], str(self.folder / "photos" / "dogs" / "0.jpg"))
        # 7/8 of the 64 pixels of a photograph are 56, so that nothing is scaled.
        image = decode(tf.io.read_file(embeddings.names[0]))[4:60, 4:60]
        images = backbones.preprocess_input("resnet10_v1_5")(tf.cast(image, "float32")[None])
        expected = np.mean(self.network(images, training=False), axis=(1, 2))[0]
        self.assertAllClose(embeddings.vectors[0], expected, atol=1e-4)

    @pytest.mark.slow
    def test_an_exported_file_gives_the_same(self):
        pixpro_keras.export_backbone(self.network, "resnet10_v1_5", self.folder / "export")
        one = pixpro_keras.embed(f"folder:{self.folder / 'photos'}", self.network, image_size=32)
        two = pixpro_keras.embed(
            f"folder:{self.folder / 'photos'}", self.folder / "export", image_size=32
        )
        self.assertAllClose(one.vectors, two.vectors, atol=1e-6)

    def test_broken_images_are_passed_over_by_name_up_to_a_share(self):
        broken = self.folder / "photos" / "cats" / "1.jpg"
        broken.write_bytes(b"no image")
        with self.assertLogs("absl", "WARNING") as logs:
            embeddings = pixpro_keras.embed(self.folder / "photos", self.network, image_size=32)
        self.assertIn(f"cannot be decoded: {broken}", logs.output[0])
        names = [pathlib.Path(name).relative_to(self.folder) for name in embeddings.names]
        expected = ["cats/0.jpg", "cats/2.jpg", "dogs/0.jpg", "dogs/1.jpg", "dogs/2.jpg"]
        self.assertEqual([str(name) for name in names], [f"photos/{name}" for name in expected])
        self.assertAllEqual(embeddings.labels, [0, 0, 1, 1, 1])
        self.assertEqual(embeddings.vectors.shape, (5, 512))
        with self.assertRaisesRegex(BrokenImagesError, f"1 of the 6 images .*{broken}"):
            pixpro_keras.embed(self.folder / "photos", self.network, max_broken_share=0)

    def test_a_network_that_returns_no_map_is_refused(self):
        network = backbones.feature_network(self.network, "pooled")
        message = r"`backbone` must return a map \(B, h, w, C\). Received: \(6, 512\)"
        with self.assertRaisesRegex(ValueError, message):
            pixpro_keras.embed(self.folder / "photos", network, image_size=32)

    def test_images_smaller_than_a_network_takes_are_refused(self):
        with self.assertRaisesRegex(ValueError, "`image_size` must be at least 32 for resnet10"):
            pixpro_keras.embed(self.folder / "photos", self.network, image_size=31)

    def test_a_network_without_the_scaling_of_its_images_is_refused(self):
        network = keras.applications.MobileNetV3Small(
            include_top=False, weights=None, include_preprocessing=False
        )
        with self.assertRaisesRegex(ValueError, "MobileNetV3Small lacks the layers that scale"):
            pixpro_keras.embed(self.folder / "photos", network, image_size=32)

    def test_an_unknown_network_is_refused(self):
        inputs = keras.Input((None, None, 3))
        network = keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs), name="mine")
        with self.assertRaisesRegex(ValueError, "'mine'; `backbone` must tell"):
            pixpro_keras.embed(self.folder / "photos", network)


if __name__ == "__main__":
    tf.test.main()
