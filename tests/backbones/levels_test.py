import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.backbones import levels
from pixpro_keras.backbones.dtype_policies import global_policy
from tests.helpers.random_weights import photo, randomize


class LevelsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("resnet18_v1_5", (64, 128, 256, 512)),
        ("resnet50", (256, 512, 1024, 2048)),
        ("mobilenetv2", (144, 192, 576, 1280)),
    )
    @pytest.mark.slow
    def test_pyramid(self, name, channels):
        backbone = randomize(backbones.build(name))
        images = photo(96, 64) / 128 - 1
        maps = backbones.feature_network(backbone, "c2-c5")(images, training=False)
        self.assertEqual(list(maps), ["c2", "c3", "c4", "c5"])
        for index, (level, width) in enumerate(zip(maps.values(), channels, strict=True)):
            self.assertEqual(level.shape, (1, 24 // 2**index, 16 // 2**index, width))
        self.assertAllEqual(maps["c5"], backbone(images, training=False))

    def test_resnet_levels_end_with_their_stage(self):
        # The first convolution of the next stage has the same stride; it is not the level.
        backbone = backbones.build("resnet50_v1_5")
        network = backbones.feature_network(backbone, "c2-c5")
        for stage, block in ((2, 3), (3, 4), (4, 6), (5, 3)):
            layer = backbone.get_layer(f"conv{stage}_block{block}_out")
            self.assertIs(network.output[f"c{stage}"], layer.output)

    @parameterized.parameters((32, 5), (16, 6))
    def test_levels_of_resnet_v2_end_before_the_block_that_halves_the_map(self, stride, last):
        backbone = backbones.build("resnet50v2", output_stride=stride)
        maps = backbones.feature_network(backbone, "c2-c5").output
        blocks = "conv2_block2_out", "conv3_block3_out", f"conv4_block{last}_out", "post_relu"
        for output, name, width in zip(maps.values(), blocks, (256, 512, 1024, 2048), strict=True):
            self.assertIs(output, backbone.get_layer(name).output)
            self.assertEqual(output.shape[-1], width)

    @pytest.mark.slow
    def test_resnet_v2_is_computed_from_its_c4_alone(self):
        backbone = randomize(backbones.build("resnet50v2"))
        pyramid = backbones.pyramid_network(backbone, lowest=4)
        last_stage = keras.Model(pyramid.output["c4"], backbone.output)
        maps = pyramid(photo(64, 96) / 128 - 1, training=False)
        found = last_stage(maps["c4"], training=False)
        self.assertAllEqual(found, maps["c5"])

    def test_levels_of_a_layer_that_is_called_several_times_are_after_it(self):
        inputs = keras.Input((None, None, 3))
        shared, x, maps = keras.layers.ReLU(), inputs, {}
        for level in range(1, 6):
            x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, 2, "same")(x))
            x = maps[f"c{level}"] = shared(x)
        backbone = randomize(keras.Model(inputs, x))
        del maps["c1"]
        images = photo(64, 96) / 128 - 1
        found = backbones.feature_network(backbone, "c2-c5")(images, training=False)
        expected = keras.Model(inputs, maps)(images, training=False)
        for level, values in expected.items():
            self.assertAllEqual(found[level], values)

    def test_dilated_backbone(self):
        backbone = backbones.build("resnet18_v1_5", output_stride=16)
        maps = backbones.feature_network(backbone, "c2-c5")(photo(64, 64))
        self.assertEqual(maps["c4"].shape, (1, 4, 4, 256))
        self.assertEqual(maps["c5"].shape, (1, 4, 4, 512))

    def test_strides_are_pixels_per_cell(self):
        inputs = keras.Input((96, 64, 3))
        halved = keras.layers.Conv2D(4, 3, 2, "same")(inputs)
        cropped = keras.layers.Conv2D(4, 3, 2)(inputs)  # 47 rows
        vector = keras.layers.GlobalAveragePooling2D()(halved)
        network = keras.Model(inputs, [inputs, halved, cropped, vector])
        self.assertEqual(levels.map_strides(network), [1, 2, None, None])

    def test_pooled(self):
        backbone = randomize(backbones.build("resnet18_v1_5"))
        images = photo(64, 96) / 128 - 1
        pooled = backbones.feature_network(backbone, "pooled")(images, training=False)
        maps = backbone(images, training=False)
        self.assertAllClose(pooled, np.mean(maps, axis=(1, 2)), rtol=1e-5)

    def test_pooling_has_the_precision_of_the_backbone(self):
        with global_policy("mixed_float16"):
            half = backbones.build("resnet18_v1_5")
            pooled = backbones.feature_network(backbones.plain_network("resnet18_v1_5"), "pooled")
            self.assertEqual(pooled.output.dtype, "float32")
            self.assertEqual(pooled.layers[-1].compute_dtype, "float32")
        pooled = backbones.feature_network(half, "pooled")
        self.assertEqual(pooled.output.dtype, "float16")

    def test_c5_is_the_backbone(self):
        backbone = backbones.build("resnet18_v1_5")
        self.assertIs(backbones.feature_network(backbone), backbone)

    def test_a_network_without_a_map_of_stride_4_has_the_others(self):
        x = inputs = keras.Input((None, None, 3))
        for stride in (8, 2, 2):
            x = keras.layers.Conv2D(stride, 3, stride, padding="same")(x)
        network = keras.Model(inputs, x)
        self.assertEqual(list(backbones.pyramid_network(network).output), ["c3", "c4", "c5"])
        self.assertIs(backbones.level_network(network, "c3").output, network.layers[1].output)
        with self.assertRaisesRegex(ValueError, r"no map of stride 4 \(c2\)\. It"):
            backbones.level_network(network, "c2")

    def test_an_error_tells_the_strides_that_there_are(self):
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
        inner = keras.Model(inputs, keras.layers.MaxPooling2D(4)(x), name="inner")
        message = r"inner has no map of stride 16 \(c4\)\. It has those of stride 1, 2, 8$"
        with self.assertRaisesRegex(ValueError, message):
            backbones.level_network(inner, "c4")
        outer = keras.Model(inputs, keras.layers.MaxPooling2D(2)(inner(inputs)), name="outer")
        message = r"stride 1, 8, 16 \(those of the model inner in it are not reached\)$"
        with self.assertRaisesRegex(ValueError, message):
            backbones.level_network(outer, "c2")

    def test_errors(self):
        backbone = backbones.build("resnet18_v1_5")
        with self.assertRaisesRegex(ValueError, "c5, c2-c5, pooled. Received: 'p3'"):
            backbones.feature_network(backbone, "p3")
        with self.assertRaisesRegex(ValueError, r"xception has no map of stride 4 \(c2\)"):
            backbones.feature_network(backbones.build("xception"), "c2-c5")


if __name__ == "__main__":
    tf.test.main()
