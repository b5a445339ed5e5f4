import keras
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.backbones.frozen import require_trainable, warn_of_frozen
from pixpro_keras.detection import C4Detector, DetectorConfig, FPNDetector
from pixpro_keras.methods import PixPro
from pixpro_keras.segmentation import FCN
from tests.helpers.tiny_networks import random_batch, tiny_pyramid_backbone

TRAININGS = (
    lambda backbone: PixPro(backbone, hidden_dim=8, out_dim=4, total_steps=1),
    lambda backbone: FCN(backbone, 3),
    lambda backbone: C4Detector(backbone, DetectorConfig(2)),
    lambda backbone: FPNDetector(backbone, DetectorConfig(2)),
)


class FrozenTest(tf.test.TestCase, parameterized.TestCase):
    def test_a_frozen_backbone_is_not_pre_trained_for_nothing(self):
        backbone = tiny_pyramid_backbone()
        backbone.trainable = False
        method = PixPro(backbone, hidden_dim=8, out_dim=4, total_steps=1)
        with self.assertRaisesRegex(ValueError, "tiny_pyramid is frozen.*trainable = True"):
            method.check_batch(random_batch())

    @parameterized.parameters(*TRAININGS[1:])
    def test_heads_may_be_trained_on_a_frozen_backbone(self, train):
        backbone = tiny_pyramid_backbone()
        backbone.trainable = False
        with self.assertLogs("absl", "WARNING") as log:
            task = train(backbone)
        self.assertIn("10 layers of tiny_pyramid are frozen", "".join(log.output))
        self.assertEmpty(backbone.trainable_variables)
        self.assertNotEmpty(task.trainable_variables)

    def test_a_linear_probe_may_be_frozen(self):
        backbone = tiny_pyramid_backbone()
        FCN(backbone, 3, is_frozen=True)
        self.assertEmpty(backbone.trainable_variables)

    @parameterized.parameters(*TRAININGS)
    def test_frozen_layers_are_counted(self, train):
        backbone = tiny_pyramid_backbone()
        for name in ("conv0", "bn0", "relu0"):
            backbone.get_layer(name).trainable = False
        with self.assertLogs("absl", "WARNING") as log:
            train(backbone)
        self.assertIn("2 layers of tiny_pyramid are frozen", "".join(log.output))

    def test_of_a_nested_backbone_too(self):
        inputs = keras.Input((None, None, 3))
        inner = tiny_pyramid_backbone()
        backbone = keras.Model(inputs, keras.layers.Conv2D(4, 1)(inner(inputs)))
        inner.trainable = False
        with self.assertLogs("absl", "WARNING") as log:
            warn_of_frozen(backbone)
        self.assertIn("10 layers", "".join(log.output))

    def test_without_weights_nothing_is_frozen(self):
        inputs = keras.Input((None, None, 3))
        require_trainable(keras.Model(inputs, keras.layers.MaxPooling2D(32)(inputs)))
