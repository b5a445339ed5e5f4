import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.heads import PointwiseMLP
from pixpro_keras.methods import Encoder, ema
from tests.helpers.tiny_networks import tiny_backbone


def encoder():
    return Encoder(tiny_backbone(), {"pixel": PointwiseMLP(12, 4)})


class MomentumTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((0.99, 100), (0.9, 7), (0.0, 1))
    def test_equals_the_formula(self, base, total):
        for step in range(total + 2):
            progress = min(step / total, 1)
            expected = (1 - base) * (math.cos(math.pi * progress) + 1) / 2
            got = ema.one_minus_momentum(step, total, base)
            self.assertAllClose(got, expected, rtol=1e-4, atol=1e-12)

    def test_late_steps_keep_their_digits(self):
        # 1 - momentum is 2.2e-9 here: next to 1, float32 knows nothing below 6e-8.
        got = ema.one_minus_momentum(999_700, 1_000_000, 0.99)
        expected = 0.01 * (math.cos(math.pi * 0.9997) + 1) / 2
        self.assertAllClose(got, expected, rtol=1e-2)


class TargetTest(tf.test.TestCase):
    def test_is_a_frozen_copy_with_batch_statistics(self):
        online = encoder()
        target = ema.make_target(online)
        images = tf.random.stateless_normal((4, 16, 16, 3), (1, 2))
        self.assertAllEqual(online(images)["pixel"], target(images)["pixel"])
        self.assertEmpty(target.trainable_variables)
        self.assertNotEmpty(online.trainable_variables)
        # In training mode both normalize with the batch's statistics and move their own.
        before = target.backbone.get_layer("bn0").moving_mean.numpy()
        outputs = target(images, training=True)["pixel"]
        self.assertAllClose(outputs, online(images, training=True)["pixel"], atol=1e-6)
        self.assertNotAllClose(target.backbone.get_layer("bn0").moving_mean, before)

    def test_normalizes_images_as_the_online_network(self):
        inputs = keras.Input((16, 16, 3))
        layer = keras.layers.Normalization()
        layer.adapt(np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)))
        maps = keras.layers.Conv2D(4, 4, 4)(layer(inputs))
        online = Encoder(keras.Model(inputs, maps), {})
        images = tf.random.stateless_uniform((2, 16, 16, 3), (1, 2), 0, 255)
        expected = online(images)["features"]
        self.assertAllEqual(ema.make_target(online)(images)["features"], expected)

    def test_update_moves_parameters_only(self):
        online = encoder()
        target = ema.make_target(online)
        rng = np.random.default_rng(0)
        online.set_weights([rng.normal(size=w.shape) for w in online.weights])
        before = target.get_weights()
        tf.function(lambda: ema.update(online, target, tf.constant(0.25)))()
        for old, new, source in zip(before, target.weights, online.weights, strict=True):
            expected = old + 0.25 * (source.numpy() - old) if source.trainable else old
            self.assertAllClose(new, expected, atol=1e-6, msg=source.path)


class EncoderTest(tf.test.TestCase):
    def test_rebuilds_from_its_config(self):
        online = encoder()
        copy = Encoder.from_config(online.get_config())
        self.assertEqual([w.shape for w in copy.weights], [w.shape for w in online.weights])
        copy.set_weights(online.get_weights())
        images = tf.random.stateless_normal((2, 16, 16, 3), (1, 2))
        outputs, copied = online(images), copy(images)
        self.assertEqual(set(outputs), {"features", "pixel"})
        self.assertEqual(outputs["features"].shape, (2, 4, 4, 16))
        self.assertAllEqual(outputs["pixel"], copied["pixel"])


if __name__ == "__main__":
    tf.test.main()
