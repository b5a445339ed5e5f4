import unittest

import numpy as np
from absl.testing import parameterized

from pixpro_keras.cli.embed import EmbedOptions
from pixpro_keras.cli.knn import KnnOptions
from pixpro_keras.cli.linear_probe import LinearProbeOptions
from pixpro_keras.cli.options.backbone_options import build_backbone
from pixpro_keras.cli.options.detect_options import DetectOptions
from pixpro_keras.cli.options.evaluation_options import read_backbone
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.cli.options.segment_options import SegmentOptions
from pixpro_keras.cli.visualize import VisualizeOptions
from tests.helpers.tiny_networks import RESNET10, register_resnets


def scales(network):
    """Batch-norm scales of a network, the largest of each layer."""
    return [float(np.max(layer.gamma)) for layer in network.layers if hasattr(layer, "gamma")]


class RandomWeightsTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        register_resnets()

    @parameterized.parameters(
        KnnOptions,
        LinearProbeOptions,
        SegmentOptions,
        DetectOptions,
        EmbedOptions,
        VisualizeOptions,
    )
    def test_residual_blocks_of_random_weights_are_open(self, cls):
        options = cls(backbone=RESNET10, image_size=64, weights="random")
        backbone, _ = read_backbone(options)
        self.assertEqual(set(scales(backbone.network)), {1.0})

    def test_residual_blocks_are_closed_on_request(self):
        options = SegmentOptions(backbone=RESNET10, zero_init_residual=True)
        backbone, _ = read_backbone(options)
        self.assertEqual(scales(backbone.network).count(0.0), 4)

    def test_flags_of_new_weights_are_refused_beside_others(self):
        for values, flag in (
            ({"zero_init_residual": True}, "--zero_init_residual"),
            ({"kernel_fan": "in"}, "--kernel_fan=in"),
        ):
            options = KnnOptions.make(backbone=RESNET10, weights="runs/a", **values)
            with self.assertRaisesRegex(FlagError, f"{flag}: --weights=runs/a are not new weights"):
                read_backbone(options)

    def test_residual_blocks_of_a_pre_training_start_closed(self):
        options = PretrainOptions(backbone=RESNET10)
        self.assertEqual(scales(build_backbone(options)).count(0.0), 4)


if __name__ == "__main__":
    unittest.main()
