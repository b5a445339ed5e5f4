import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras import backbones, detection, methods, segmentation
from pixpro_keras.backbones.resnet import build_resnet
from pixpro_keras.utils import UserError
from tests.helpers.random_weights import photo, randomize
from tests.helpers.tiny_networks import tiny_pyramid_backbone


class DataFormatTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(keras.config.set_image_data_format, keras.config.image_data_format())

    @parameterized.named_parameters(
        ("backbone", lambda backbone: backbones.build("resnet50")),
        ("plain_network", lambda backbone: backbones.plain_network("resnet18_v1_5")),
        ("resnet", lambda backbone: build_resnet("resnet18_v1_5")),
        ("encoder", lambda backbone: methods.Encoder(backbone, {})),
        ("method", lambda backbone: pixpro_keras.PixPro(backbone, total_steps=1)),
        ("segmentation", lambda backbone: segmentation.FCN(backbone, 2)),
        (
            "detection",
            lambda backbone: detection.build(
                "faster_rcnn_c4", backbone, detection.DetectorConfig(num_classes=2)
            ),
        ),
    )
    def test_channels_first_is_refused_with_the_way_out(self, make):
        backbone = tiny_pyramid_backbone()
        keras.config.set_image_data_format("channels_first")
        message = (
            r'call keras.config.set_image_data_format\("channels_last"\).*Received: channels_f'
        )
        with self.assertRaisesRegex(ValueError, message) as context:
            make(backbone)
        self.assertIsInstance(context.exception, UserError)  # one line at the command line

    def test_an_export_is_loaded_with_channels_first(self):
        folder = self.create_tempdir().full_path
        backbone = randomize(backbones.build("resnet18_v1_5"))
        pixpro_keras.export_backbone(backbone, "resnet18_v1_5", folder)
        images = photo(64, 96) / 128 - 1
        maps = backbone(images, training=False)
        keras.config.set_image_data_format("channels_first")
        network = pixpro_keras.load_backbone(folder, features="pooled")
        pooled = network(images, training=False)
        self.assertAllClose(pooled, np.mean(maps, axis=(1, 2)), rtol=1e-5)


if __name__ == "__main__":
    tf.test.main()
