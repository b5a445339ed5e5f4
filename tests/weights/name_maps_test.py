import json

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.weights import name_maps
from tests.helpers.shared_data import shared_path


def torch_shape(variable):
    shape = tuple(variable.shape)
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape


class NamesTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = backbones.build("resnet18_v1_5")

    def state(self):
        rng = np.random.default_rng(0)
        return {
            name: rng.standard_normal(torch_shape(variable)).astype("float32")
            for name, variable in name_maps.torch_variables(self.model).items()
        }

    @parameterized.parameters(
        ("conv1_conv", "conv1"),
        ("conv1_bn", "bn1"),
        ("conv2_block1_1_conv", "layer1.0.conv1"),
        ("conv3_block1_0_conv", "layer2.0.downsample.0"),
        ("conv3_block1_0_bn", "layer2.0.downsample.1"),
        ("conv4_block23_3_bn", "layer3.22.bn3"),
        ("conv5_block3_2_conv", "layer4.2.conv2"),
    )
    def test_torch_layer_name(self, ours, torch):
        self.assertEqual(name_maps.torch_layer_name(ours), torch)

    @parameterized.parameters("conv2_block1_out", "pool1_pad", "conv6_block1_1_conv", "fc")
    def test_layer_without_a_torch_name(self, name):
        with self.assertRaisesRegex(ValueError, f"Received: '{name}'"):
            name_maps.torch_layer_name(name)

    def test_names_and_shapes_are_those_of_the_release(self):
        keys = json.loads(shared_path("reference", "official_state_dict_keys.json").read_text())
        expected = {
            name.removeprefix("encoder."): tuple(shape)
            for name, shape in keys.items()
            if name.startswith("encoder.") and not name.endswith("num_batches_tracked")
        }
        variables = name_maps.torch_variables(backbones.build("resnet50_v1_5"))
        self.assertEqual({k: torch_shape(v) for k, v in variables.items()}, expected)

    def test_load(self):
        state = self.state()
        extra = {
            "fc.weight": np.zeros((1000, 512)),
            "fc.bias": np.zeros(1000),
            "bn1.num_batches_tracked": np.array(7),
        }
        name_maps.load_torch_state_dict(self.model, state | extra)
        kernel = self.model.get_layer("conv3_block1_0_conv").kernel
        expected = state["layer2.0.downsample.0.weight"]
        self.assertEqual(kernel.shape, (1, 1, 64, 128))
        self.assertEqual(kernel[0, 0, 5, 9], expected[9, 5, 0, 0])
        kernel = self.model.get_layer("conv1_conv").kernel
        self.assertEqual(kernel[1, 4, 2, 9], state["conv1.weight"][9, 2, 1, 4])
        norm = self.model.get_layer("conv5_block2_1_bn")
        for ours, torch in (
            (norm.gamma, "weight"),
            (norm.beta, "bias"),
            (norm.moving_mean, "running_mean"),
            (norm.moving_variance, "running_var"),
        ):
            self.assertAllEqual(ours, state[f"layer4.1.bn1.{torch}"])

    def test_what_does_not_fit_is_named_and_nothing_is_loaded(self):
        before = self.model.get_weights()
        missing, left_over, misshaped = self.state(), self.state(), self.state()
        del missing["layer3.1.bn2.running_var"]
        left_over["layer1.0.conv3.weight"] = np.zeros((64, 64, 1, 1))
        misshaped["conv1.weight"] = np.zeros((64, 3, 3, 3))
        for state, message in (
            (missing, "layer3.1.bn2.running_var is missing"),
            (left_over, "layer1.0.conv3.weight is left over"),
            (misshaped, r"conv1.weight has the shape \(3, 3, 3, 64\) instead of \(7, 7, 3, 64\)"),
            ({}, "conv1.weight is missing.* and 95 more"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                name_maps.load_torch_state_dict(self.model, state)
        for now, then in zip(self.model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)

    @parameterized.parameters(
        ("resnet50", "v1_5 ResNet.*Received: resnet50, with the layer conv1_conv"),
        ("mobilenetv2", "Received: 'Conv1'"),
    )
    @pytest.mark.slow
    def test_other_networks_are_refused(self, name, message):
        with self.assertRaisesRegex(ValueError, message):
            name_maps.load_torch_state_dict(backbones.build(name), {})


if __name__ == "__main__":
    tf.test.main()
