import unittest
from unittest import mock

import keras

from pixpro_keras.cli.options.evaluation_options import EvaluatedBackbone
from pixpro_keras.cli.options.fine_tuning_options import FineTuningOptions, slow_down_backbone
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


if __name__ == "__main__":
    unittest.main()
