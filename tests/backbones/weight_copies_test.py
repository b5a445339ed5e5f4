import keras
import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras import backbones
from tests.helpers.random_weights import photo, randomize


class CopyWeightsTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_a_dilated_network_finds_the_same_features_and_more(self):
        """Every second cell is equal if the stride is in 1x1 or in padded convolutions.

        Other ResNets are in `resnet_test.py`.
        """
        name = "resnet50v2"
        backbone = randomize(backbones.build(name))
        dilated = backbones.build(name, output_stride=16)
        backbones.copy_weights(backbone, dilated)
        image = backbones.preprocess_input(name)(photo(64, 96))
        coarse, fine = backbone(image, training=False), dilated(image, training=False)
        self.assertEqual((coarse.shape[1:3], fine.shape[1:3]), ((2, 3), (4, 6)))
        scale = np.abs(coarse).max()
        self.assertAllClose(fine[:, ::2, ::2] / scale, coarse / scale, atol=1e-5)

    def test_weights_and_names_stay(self):
        backbone = randomize(backbones.build("resnet18_v1_5"))
        dilated = backbones.build("resnet18_v1_5", output_stride=16)
        backbones.copy_weights(backbone, dilated)
        for one, two in zip(backbone.weights, dilated.weights, strict=True):
            self.assertEqual(one.path.split("/")[-2:], two.path.split("/")[-2:])
            self.assertAllEqual(one, two)

    def test_layers_inside_of_a_model_and_beside_it(self):
        def build(is_nested, has_scale):
            inputs = keras.Input((None, None, 3))
            scaling = [keras.layers.Normalization()]
            scaling += [keras.layers.Rescaling(0.5)] if has_scale else []
            if is_nested:
                scaling = [keras.Sequential([keras.Input((None, None, 3)), *scaling])]
            x = inputs
            for layer in [*scaling, keras.layers.Conv2D(4, 3)]:
                x = layer(x)
            return keras.Model(inputs, x)

        images = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype("float32")
        for is_nested in (False, True):
            source = build(is_nested, has_scale=True)
            for has_scale in (False, True):
                target = build(not is_nested, has_scale)
                backbones.copy_weights(source, target)
                self.assertAllClose(target(images), source(images), rtol=1e-5)

    def test_another_network(self):
        source, target = backbones.build("resnet18_v1_5"), backbones.build("resnet34_v1_5")
        with self.assertRaisesRegex(ValueError, "'resnet18_v1_5' are not those of resnet34_v1_5"):
            backbones.copy_weights(source, target)


if __name__ == "__main__":
    tf.test.main()
