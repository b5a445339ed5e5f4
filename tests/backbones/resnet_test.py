"""The paper's ResNets against the release's features and a NumPy reading of torch's layers."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.backbones import resnet
from pixpro_keras.weights import name_maps
from tests.helpers.random_weights import photo, randomize
from tests.helpers.reference_weights import by_rule, official_state
from tests.helpers.shared_data import shared_path
from tests.helpers.tiny_networks import of_one_block_a_stage

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def pad(x, size, value=0.0):
    """torch pads alike on all sides."""
    return np.pad(x, ((0, 0), (size, size), (size, size), (0, 0)), constant_values=value)


def windows(x, size, stride, dilation=1):
    """`(B, h, w, C, size, size)`: what each output cell sees of a padded map."""
    reach = (size - 1) * dilation + 1
    seen = np.lib.stride_tricks.sliding_window_view(x, (reach, reach), axis=(1, 2))
    return seen[:, ::stride, ::stride, :, ::dilation, ::dilation]


class TorchResNet:
    """torchvision's ResNet in float64, from a state dict of arrays in torch's layout."""

    def __init__(self, depth, state, is_dilated):
        self.depth = depth
        self.state = state
        self.is_dilated = is_dilated

    def __call__(self, images):
        x = self.conv(images.astype("float64"), "conv1", stride=2, padding=3)
        x = np.maximum(self.norm(x, "bn1"), 0)
        x = windows(pad(x, 1, -np.inf), 3, stride=2).max((-1, -2))
        for stage, num_blocks in enumerate(BLOCKS[self.depth], start=1):
            for block in range(num_blocks):
                is_dilated = self.is_dilated and stage == 4
                stride = 2 if stage > 1 and block == 0 and not is_dilated else 1
                x = self.block(x, f"layer{stage}.{block}", stride, 2 if is_dilated else 1)
        return x

    def block(self, x, name, stride, dilation):
        spread = {"stride": stride, "padding": dilation, "dilation": dilation}
        second = {"padding": dilation, "dilation": dilation}
        plan = [spread, second] if self.depth < 50 else [{}, spread, {}]
        y = x
        for index, settings in enumerate(plan, start=1):
            y = self.conv(y, f"{name}.conv{index}", **settings)
            y = self.norm(y, f"{name}.bn{index}")
            if index < len(plan):
                y = np.maximum(y, 0)
        if f"{name}.downsample.0.weight" in self.state:
            x = self.conv(x, f"{name}.downsample.0", stride=stride)
            x = self.norm(x, f"{name}.downsample.1")
        return np.maximum(x + y, 0)

    def conv(self, x, name, stride=1, padding=0, dilation=1):
        kernel = self.state[f"{name}.weight"].astype("float64")  # (O, I, size, size)
        seen = windows(pad(x, padding), kernel.shape[-1], stride, dilation)
        return np.tensordot(seen, kernel, axes=((3, 4, 5), (1, 2, 3)))

    def norm(self, x, name):
        weight, bias, mean, variance = (
            self.state[f"{name}.{part}"].astype("float64")
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def state_by_rule(model):
    """A torch state dict for our model, with batch-norm statistics that matter."""
    state = {}
    for name, variable in name_maps.torch_variables(model).items():
        shape = tuple(variable.shape)
        if len(shape) == 4:
            shape = (shape[3], shape[2], shape[0], shape[1])
        state[name] = by_rule(name, shape)
        if name.endswith("running_mean"):
            state[name] = by_rule(name.replace("running_mean", "bias"), shape)
        elif name.endswith("running_var"):
            state[name] = by_rule(name.replace("running_var", "weight"), shape) ** 2
    return state


def relative_error(values, expected):
    return np.abs(values - expected).max() / np.abs(expected).max()


class ParityTest(tf.test.TestCase, parameterized.TestCase):
    @pytest.mark.slow
    def test_features_of_the_release(self):
        model = backbones.build("resnet50_v1_5")
        state = {
            name.removeprefix("encoder."): array
            for name, array in official_state().items()
            if name.startswith("encoder.")
        }
        name_maps.load_torch_state_dict(model, state)
        for case in range(3):
            stored = np.load(shared_path("reference", f"train_steps_{case}.npz"))
            features = model(stored["view_1"], training=False).numpy()
            error = relative_error(features, stored["encoder_eval_c5_view_1"])
            self.assertLess(error, 1e-4, f"case {case}")

    @parameterized.parameters((18, 32), (18, 16), (34, 32), (50, 16))
    @pytest.mark.slow
    def test_layers_of_torch(self, depth, output_stride):
        model = backbones.build(f"resnet{depth}_v1_5", output_stride=output_stride)
        state = state_by_rule(model)
        name_maps.load_torch_state_dict(model, state)
        reference = TorchResNet(depth, state, is_dilated=output_stride == 16)
        for height, width in ((65, 78), (64, 96)):
            images = backbones.preprocess_input("resnet50_v1_5")(photo(height, width)).numpy()
            expected = reference(images)
            features = model(images, training=False).numpy()
            self.assertEqual(features.shape, expected.shape)
            self.assertLess(relative_error(features, expected), 1e-5)


class OutputStrideTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.networks = {}

    @classmethod
    def tearDownClass(cls):
        del cls.networks
        super().tearDownClass()

    def dilated(self, name):
        """A dilated network of any weights: once for all tests."""
        if name not in self.networks:
            self.networks[name] = backbones.build(name, output_stride=16)
        return self.networks[name]

    @parameterized.parameters("resnet50", "resnet18_v1_5")
    @pytest.mark.slow
    def test_dilated_last_stage(self, name):
        plain = randomize(backbones.build(name))
        dilated = self.dilated(name)
        self.assertEqual(
            [(w.path, w.shape) for w in dilated.weights], [(w.path, w.shape) for w in plain.weights]
        )
        self.assertEqual(dilated.compute_output_shape((1, 112, 112, 3))[1:3], (7, 7))
        self.assertEqual(plain.compute_output_shape((1, 112, 112, 3))[1:3], (4, 4))

        # A dilated stage sees, from every second cell, what the strided one sees, if no convolution
        # before the stride reaches the cells between: other ResNets stride first, in the 1x1; in
        # ours the 3x3 that has the stride is left with its center.
        if name == "resnet18_v1_5":
            kernel = plain.get_layer("conv5_block1_1_conv").kernel
            center = np.zeros(kernel.shape)
            center[1, 1] = kernel[1, 1]
            kernel.assign(center)
        backbones.copy_weights(plain, dilated)
        for height, width in ((96, 64), (97, 79)):
            images = photo(height, width) / 128 - 1
            fine = dilated(images, training=False).numpy()
            coarse = plain(images, training=False).numpy()
            self.assertGreater(coarse.std(), 1e-2)
            self.assertLess(relative_error(fine[:, ::2, ::2], coarse), 1e-5)

    @pytest.mark.slow
    def test_only_the_last_stage_is_dilated(self):
        for name in ("resnet18_v1_5", "resnet50"):
            dilated = {
                layer.name
                for layer in self.dilated(name).layers
                if isinstance(layer, keras.layers.Conv2D) and layer.dilation_rate == (2, 2)
            }
            indices = (1, 2) if name == "resnet18_v1_5" else (2,)
            blocks = (1, 2) if name == "resnet18_v1_5" else (1, 2, 3)
            expected = {f"conv5_block{block}_{i}_conv" for block in blocks for i in indices}
            self.assertEqual(dilated, expected)

    @parameterized.parameters("float32", "mixed_float16", "mixed_bfloat16")
    def test_gradients_are_finite(self, policy):
        self.addCleanup(keras.config.set_dtype_policy, "float32")
        keras.config.set_dtype_policy(policy)
        model = backbones.build("resnet18_v1_5", output_stride=16)
        variables = [variable.value for variable in model.trainable_variables]
        images = backbones.preprocess_input("resnet18_v1_5")(photo(64, 64, batch=2))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.cast(model(images, training=True), tf.float32))
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            self.assertTrue(np.isfinite(gradient).all(), variable.name)


class OpenResidualBranchesTest(tf.test.TestCase):
    def test_scales_of_zero_become_one_and_others_stay(self):
        backbone = backbones.build("resnet18_v1_5")
        trained = backbone.get_layer("conv2_block1_2_bn").gamma
        trained.assign(0.3 * tf.ones_like(trained))
        closed = [
            layer.name
            for layer in backbone.layers
            if isinstance(layer, keras.layers.BatchNormalization) and not np.any(layer.gamma)
        ]
        self.assertLen(closed, 7)  # the last of each block, but for the trained one
        resnet.undo_zero_init_residual(backbone)
        for name in closed:
            gamma = backbone.get_layer(name).gamma
            self.assertAllEqual(gamma, np.ones(gamma.shape))
        self.assertAllClose(trained, 0.3 * np.ones(trained.shape))


class RelativesTest(tf.test.TestCase, parameterized.TestCase):
    def test_shortcuts_average_odd_maps_as_timms(self):
        """`AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)`: at the border what is there."""
        network = backbones.build("resnet18_d")
        pool = network.get_layer("conv3_block1_0_pool")
        x = np.random.default_rng(0).standard_normal((1, 5, 3, 2)).astype("float32")
        found = pool(x).numpy()
        self.assertEqual(found.shape, (1, 3, 2, 2))
        self.assertAllClose(found[0, 2, 1], x[0, 4, 2], rtol=1e-6)
        self.assertAllClose(found[0, 2, 0], x[0, 4, :2].mean(0), rtol=1e-6)
        self.assertAllClose(found[0, 0, 0], x[0, :2, :2].mean((0, 1)), rtol=1e-6)

    @parameterized.parameters("resnet18_d", "resnext50_32x4d")
    @pytest.mark.slow
    def test_gradients_are_finite(self, name):
        with of_one_block_a_stage(name):
            model = backbones.build(name)
        variables = [variable.value for variable in model.trainable_variables]
        images = backbones.preprocess_input(name)(photo(64, 64, batch=2))

        @tf.function
        def gradients():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(model(images, training=True)))
            return tape.gradient(loss, variables)

        for variable, gradient in zip(variables, gradients(), strict=True):
            self.assertTrue(np.isfinite(gradient).all(), variable.name)


class FanInTest(tf.test.TestCase):
    def test_kernels_get_the_deviation_of_their_fan_in(self):
        backbone = backbones.build("resnet18_v1_5")
        resnet.use_fan_in(backbone)
        for name in ("conv1_conv", "conv3_block1_1_conv", "conv5_block1_0_conv"):
            kernel = backbone.get_layer(name).kernel
            expected = np.sqrt(2 / np.prod(kernel.shape[:-1]))
            self.assertAllClose(np.std(kernel), expected, rtol=0.03)

    def test_other_networks_are_refused(self):
        with self.assertRaisesRegex(ValueError, "mobilenetv2 is no ResNet"):
            resnet.use_fan_in(backbones.build("mobilenetv2"))


class SizeTest(tf.test.TestCase, parameterized.TestCase):
    # Those of the others are in `weights/constructors_test.py`.
    # torchvision's, and timm's of ResNet-D.
    @parameterized.parameters(
        ("resnet50_d", 23_527_264), ("resnext50_32x4d", 22_979_904), ("wide_resnet50_2", 66_834_240)
    )
    @pytest.mark.slow
    def test_number_of_parameters_of_relatives(self, name, expected):
        self._check(name, expected)

    @pytest.mark.slow
    def test_number_of_parameters_of_deep_relatives(self):
        for name, expected in (("resnext101_32x8d", 86_742_336), ("wide_resnet101_2", 124_837_696)):
            self._check(name, expected)

    # The values are not looked at: drawing them takes longest.
    @mock.patch.object(resnet, "he_normal_fan_out", keras.initializers.Zeros)
    def _check(self, name, expected):
        model = backbones.build(name)
        self.assertEqual(sum(np.prod(v.shape) for v in model.trainable_variables), expected)


if __name__ == "__main__":
    tf.test.main()
