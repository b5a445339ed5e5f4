import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.backbones import keras_cv_networks
from pixpro_keras.methods import PixPro
from pixpro_keras.weights import export_backbone
from tests.helpers.random_weights import randomize

# One of each family, the smallest.
SMALL = [
    f"keras_cv:{name}"
    for name in (
        "yolo_v8_xs_backbone",
        "resnet18",
        "resnet18_v2",
        "efficientnetv2_b0",
    )
]
IMAGES = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype("float32")


class KerasCVNetworksTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # The shape of what a block returns, which Keras finds out by tracing it: by its parts instead, in a
        # third of the time.
        layers = keras_cv_networks.import_keras_cv().layers
        for block in (layers.MBConvBlock, layers.FusedMBConvBlock):
            self.enterContext(mock.patch.object(block, "compute_output_spec", block.call))

    def published_params(self, backbone, name):
        return type(backbone).presets[name.removeprefix("keras_cv:")]["metadata"]["params"]

    @parameterized.parameters(*SMALL)
    def test_sizes_are_those_of_the_presets(self, name):
        backbone = keras_cv_networks.build_backbone(name)
        self.assertEqual(backbone.count_params(), self.published_params(backbone, name))

    @pytest.mark.slow
    # The values are not looked at: drawing them takes a quarter of the time.
    @mock.patch.object(
        keras.initializers.VarianceScaling, "__call__", keras.initializers.Zeros.__call__
    )
    def test_sizes_of_all_presets(self):
        # Else Keras gives the weights below their values in the next test.
        self.addCleanup(keras.utils.clear_session)
        for name in set(keras_cv_networks.names()) - set(SMALL):
            # Weights without values, of which the largest networks have a gigabyte.
            with keras.StatelessScope(initialize_variables=False):
                backbone = keras_cv_networks.build_backbone(name)
            self.assertEqual(backbone.count_params(), self.published_params(backbone, name), name)

    @parameterized.parameters(*SMALL)
    @pytest.mark.slow
    def test_what_trains_and_what_is_exported_give_the_same_features(self, name):
        backbone = randomize(backbones.build(name))
        self.assertEqual(backbones.name_of(backbone), name)
        folder = pathlib.Path(self.create_tempdir().full_path)
        export_backbone(backbone, name, folder)
        loaded = pixpro_keras.load_backbone(folder)
        self.assertAllEqual(loaded(IMAGES, training=False), backbone(IMAGES, training=False))
        self.assertEqual(backbones.name_of(loaded), name)
        levels = backbones.feature_network(loaded, "c2-c5").output
        self.assertEqual(list(levels), ["c2", "c3", "c4", "c5"])

    @pytest.mark.slow
    def test_detectors_and_segmenters_of_keras_cv_take_it(self):
        models = keras_cv_networks.import_keras_cv().models
        yolo = keras_cv_networks.build_backbone("keras_cv:yolo_v8_xs_backbone")
        resnet = keras_cv_networks.build_backbone("keras_cv:resnet18")
        boxes = {"num_classes": 3, "bounding_box_format": "xyxy"}
        for model in (
            models.YOLOV8Detector(backbone=yolo, fpn_depth=1, **boxes),
            models.RetinaNet(backbone=resnet, **boxes),
            models.DeepLabV3Plus(backbone=resnet, num_classes=3),
        ):
            outputs = model(tf.zeros((1, 64, 64, 3)))
            self.assertNotEmpty(keras.tree.flatten(outputs))

    @pytest.mark.slow
    def test_pixpro_trains_it(self):
        backbone = backbones.build("keras_cv:yolo_v8_xs_backbone")
        method = PixPro(backbone, hidden_dim=16, out_dim=8, total_steps=2)
        method.compile(keras.optimizers.SGD(0.01), jit_compile=False)
        method.optimizer.build(method.trainable_variables)
        corners = np.tile([0.0, 0.0, 1.0, 1.0], (2, 1)).astype("float32")
        views = np.random.default_rng(0).uniform(0, 255, (2, 2, 64, 64, 3)).astype("float32")
        batch = {"view1": views[0], "view2": views[1], "coord1": corners, "coord2": corners}
        logs = method.train_step({name: tf.constant(value) for name, value in batch.items()})
        self.assertTrue(np.isfinite(float(logs["loss"])))
        self.assertEqual(float(logs["bad_steps"]), 0)


if __name__ == "__main__":
    tf.test.main()
