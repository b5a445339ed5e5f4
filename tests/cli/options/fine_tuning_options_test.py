import pathlib
import tempfile
import unittest
from unittest import mock

import keras

from pixpro_keras.cli.options.evaluation_options import EvaluatedBackbone
from pixpro_keras.cli.options.fine_tuning_options import (
    FineTuningOptions,
    refuse_image_size,
    slow_down_backbone,
)
from pixpro_keras.cli.options.option_fields import FlagError
from tests.helpers.tiny_networks import tiny_backbone


class SlowDownBackboneTest(unittest.TestCase):
    def slow_down(self, **options):
        """Returns the name in the header, and the calls of `scale_updates`."""
        self.network = tiny_backbone()
        backbone = EvaluatedBackbone(self.network, keras.ops.identity, "runs/mine")
        task = mock.Mock()
        name = slow_down_backbone(FineTuningOptions(**options), task, backbone)
        return name, task.scale_updates.call_args_list

    def test_pre_trained_weights(self):
        name, calls = self.slow_down(weights="runs/mine", backbone_learning_rate_factor=0.1)
        self.assertEqual(name, "runs/mine, learning rate times 0.1")
        self.assertEqual(calls, [mock.call(self.network.trainable_variables, 0.1)])

    def test_random_weights_keep_their_rate(self):
        for weights in (None, "random"):
            name, calls = self.slow_down(
                weights=weights, backbone="resnet18", backbone_learning_rate_factor=0.1
            )
            self.assertEqual((name, calls), ("runs/mine", []))

    def test_full_rate(self):
        self.assertEqual(self.slow_down(weights="runs/mine"), ("runs/mine", []))


class RefuseImageSizeTest(unittest.TestCase):
    def test_networks_of_any_size_have_none(self):
        refuse_image_size(FineTuningOptions.make(image_size=224), "--resize")  # As in `flags.cfg`.
        with self.assertRaisesRegex(FlagError, "^--image_size=64: the sizes .* are --resize$"):
            refuse_image_size(FineTuningOptions.make(image_size=64), "--resize")

    def test_networks_of_one_size_have_it(self):
        inputs = keras.Input((64, 64, 3))
        outputs = keras.layers.Conv2D(4, 3, strides=32, padding="same")(inputs)
        with tempfile.TemporaryDirectory() as folder:
            file = str(pathlib.Path(folder) / "network.keras")
            keras.Model(inputs, outputs).save(file)
            refuse_image_size(FineTuningOptions.make(backbone=file, image_size=64), "--resize")


if __name__ == "__main__":
    unittest.main()
