import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.backbones.remat import Remat
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.methods import PixPro
from pixpro_keras.optimizers import LARS
from tests.helpers.replicas import per_replica, two_cpus
from tests.helpers.steps import TINY, scalars, traced_step
from tests.helpers.tiny_networks import random_batch


def two_blocks(batch_norm=BatchNormalization, dropout=0.0, synchronized=False, parts=3):
    """Two residual blocks of some convolutions, whose normalizations may be ours or Keras's."""
    inputs = x = keras.Input((None, None, 3))
    for number in range(2):
        x = shortcut = keras.layers.Conv2D(4, 3, padding="same", name=f"enter{number}")(x)
        for part in range(parts):
            x = keras.layers.Conv2D(
                4, 3, padding="same", use_bias=False, name=f"conv{number}{part}"
            )(x)
            x = batch_norm(synchronized=synchronized, name=f"bn{number}{part}")(x)
            x = keras.layers.ReLU(name=f"relu{number}{part}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
        x = keras.layers.Add(name=f"add{number}")([x, shortcut])
    return keras.Model(inputs, x, name="two_blocks")


def run(network, variables, images):
    """Outputs and gradients of one traced call in training."""

    @tf.function
    def call():
        with tf.GradientTape() as tape:
            outputs = network(images, training=True)
            loss = tf.reduce_sum(tf.square(outputs))
        return outputs, tape.gradient(loss, [v.value for v in variables])

    return call()


@pytest.mark.slow
class RematTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(BatchNormalization, keras.layers.BatchNormalization)
    def test_the_same_numbers(self, batch_norm):
        keras.utils.set_random_seed(0)
        network = two_blocks(batch_norm)
        recomputed = Remat(network)
        self.assertLen(recomputed.segments, 2)
        images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
        before = network.get_weights()
        outputs, gradients = run(network, network.trainable_variables, images)
        after = network.get_weights()
        self.assertNotAllClose(before[-1], after[-1])
        network.set_weights(before)
        again, gradients_again = run(recomputed, network.trainable_variables, images)
        self.assertAllClose(again, outputs, rtol=1e-6)
        for one, two in zip(gradients_again, gradients, strict=True):
            self.assertAllClose(one, two, rtol=1e-5, atol=1e-6)
        # Moving statistics have moved once.
        for one, two in zip(network.get_weights(), after, strict=True):
            self.assertAllClose(one, two, rtol=1e-6)

    def test_a_forward_pass_more_is_in_the_graph(self):
        network = two_blocks()
        images = tf.zeros((1, 8, 8, 3))

        def convolutions(network_or_recomputed):
            @tf.function
            def call():
                with tf.GradientTape() as tape:
                    loss = tf.reduce_sum(network_or_recomputed(images, training=True))
                return tape.gradient(loss, [v.value for v in network.trainable_variables])

            graph = call.get_concrete_function().graph
            return sum(operation.type == "Conv2D" for operation in graph.get_operations())

        self.assertEqual(convolutions(Remat(network)), 2 * convolutions(network))

    @parameterized.parameters(("resnet18_v1_5", 8), ("resnet50", 16), ("mobilenetv3small", 12))
    def test_segments_are_blocks(self, name, count):
        network = backbones.build(name)
        segments = Remat(network).segments
        self.assertLen(segments, count)
        self.assertEqual(
            sum(segment.count_params() for segment in segments), network.count_params()
        )

    def test_networks_that_cannot_be(self):
        with self.assertRaisesRegex(ValueError, r"dropout\S* draws random numbers"):
            Remat(two_blocks(dropout=0.1))
        inputs = keras.Input((4, 4, 3))
        with self.assertRaisesRegex(ValueError, "cannot be cut"):
            Remat(keras.Model(inputs, keras.layers.ReLU()(inputs)))

    @pytest.mark.slow
    def test_in_a_step_on_one_device_and_on_two(self):
        def build(synchronized=False, is_recomputed=True):
            keras.utils.set_random_seed(0)
            backbone = two_blocks(synchronized=synchronized, parts=2)
            model = PixPro(backbone, **TINY)
            if is_recomputed:
                model.encoder.recompute_backbone()
            model.compile(optimizer=LARS(0.5, trust_coefficient=0.02), jit_compile=False)
            model.optimizer.build(model.trainable_variables)
            return model

        def steps(model, strategy=None):
            step = traced_step(model, strategy)
            batches = [random_batch(seed=seed) for seed in range(3)]
            if strategy:
                batches = [per_replica(strategy, batch) for batch in batches]
            return [scalars(step(batch), strategy)["loss"] for batch in batches]

        plain, recomputed = build(is_recomputed=False), build()
        expected = steps(plain)
        self.assertAllClose(steps(recomputed), expected, rtol=1e-5)
        strategy = two_cpus()
        with strategy.scope():
            mirrored = build(synchronized=True)
        self.assertAllClose(steps(mirrored, strategy), expected, rtol=1e-4)
        for one, two in zip(plain.weights, recomputed.weights, strict=True):
            self.assertAllClose(two, one, rtol=1e-4, atol=1e-5, msg=one.path)
        for one, two in zip(plain.weights, mirrored.weights, strict=True):
            self.assertAllClose(two, one, rtol=3e-4, atol=4e-5, msg=one.path)


if __name__ == "__main__":
    tf.test.main()
