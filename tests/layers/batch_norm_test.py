import inspect
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers import small_maps
from pixpro_keras.layers.batch_norm import BatchNormalization
from pixpro_keras.layers.conv import Conv2D

SHAPES = {"maps": (4, 5, 3, 6), "rows": (7, 6), "sequence": (2, 5, 6), "one row": (1, 6)}


def make_pair(shape, dtype="float32", **settings):
    """Keras's layer and ours with the same random weights, and an input."""
    rng = np.random.default_rng(0)
    layers = []
    for kind in (keras.layers.BatchNormalization, BatchNormalization):
        layer = kind(momentum=0.9, epsilon=1e-5, dtype=dtype, **settings)
        layer.build(shape)
        layers.append(layer)
    weights = [rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers, tf.constant(3 + 2 * rng.standard_normal(shape), "float32")


@tf.function
def run(layer, x, seed):
    """Output, and gradients of a sum with random weights."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        weights = tf.random.stateless_normal(tf.shape(y), seed, dtype=tf.float32)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * weights)
    return y, tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])


class BatchNormTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*[(name, shape) for name, shape in SHAPES.items()])
    def test_equals_keras_in_training(self, shape):
        (stock, ours), x = make_pair(shape)
        expected, expected_gradients = run(stock, x, (0, 1))
        found, gradients = run(ours, x, (0, 1))
        # Keras's own rounds in x * scale - mean * scale, which shows where the variance is 0.
        self.assertAllClose(found, expected, atol=1e-4)
        for one, other in zip(gradients, expected_gradients, strict=True):
            self.assertAllClose(one, other, atol=2e-4)
        for one, other in zip(ours.weights, stock.weights, strict=True):
            self.assertEqual(one.path.split("/")[-1], other.path.split("/")[-1])
            self.assertAllClose(one, other, atol=1e-5)

    @parameterized.parameters("mixed_float16", "mixed_bfloat16")
    def test_mixed_precision_stays_near_float32(self, policy):
        (_, ours), x = make_pair(SHAPES["maps"], policy)
        (_, exact), _ = make_pair(SHAPES["maps"])
        found, gradients = run(ours, x, (0, 1))
        expected, expected_gradients = run(exact, x, (0, 1))
        self.assertEqual(found.dtype.name, policy.removeprefix("mixed_"))
        self.assertAllClose(tf.cast(found, "float32"), expected, atol=3e-2)
        self.assertAllClose(gradients[0], expected_gradients[0], atol=3e-2)
        self.assertEqual(ours.moving_variance.dtype, "float32")
        self.assertAllClose(ours.moving_mean, exact.moving_mean, atol=2e-3)

    def test_without_scale_and_offset(self):
        (stock, ours), x = make_pair(SHAPES["maps"], scale=False, center=False)
        self.assertAllClose(run(ours, x, (0, 1))[0], run(stock, x, (0, 1))[0], atol=2e-5)

    @parameterized.parameters(
        ({"axis": 1}, "float32"), ({"renorm": True}, "float32"), ({}, "float64")
    )
    def test_what_cannot_be_fused_is_keras_own(self, settings, dtype):
        if not settings.keys() <= inspect.signature(BatchNormalization.__base__).parameters.keys():
            self.skipTest(f"this version of Keras knows no {settings}")
        (stock, ours), x = make_pair(SHAPES["maps"], dtype, **settings)
        x = tf.cast(x, dtype)
        self.assertAllEqual(run(ours, x, (0, 1))[0], run(stock, x, (0, 1))[0])

    @parameterized.parameters("maps", "sequence")
    def test_over_two_replicas_equals_one_device(self, name):
        (_, whole), x = make_pair(SHAPES[name])
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
        with strategy.scope():
            (_, ours), _ = make_pair(SHAPES[name])
        by_output = tf.random.stateless_normal(x.shape, (0, 1))
        calls = []

        def all_reduce(context, *args, original=tf.distribute.ReplicaContext.all_reduce):
            calls.append(args)
            return original(context, *args)

        def step(layer, x, by_output):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            weights = [v.value for v in layer.trainable_variables]
            return y, *tape.gradient(y, [x, *weights], by_output)

        def halves(tensor):
            parts = tf.split(tensor, 2)
            return strategy.experimental_distribute_values_from_function(
                lambda context: parts[context.replica_id_in_sync_group]
            )

        run_on_both = tf.function(lambda *inputs: strategy.run(step, args=(ours, *inputs)))
        with mock.patch.object(tf.distribute.ReplicaContext, "all_reduce", all_reduce):
            results = run_on_both(halves(x), halves(by_output))
        self.assertLen(calls, 4)  # on each replica once forward and once backward
        y, by_input, *by_weights = map(strategy.experimental_local_results, results)
        expected = step(whole, x, by_output)
        self.assertAllClose(tf.concat(y, 0), expected[0], atol=1e-5)
        self.assertAllClose(tf.concat(by_input, 0), expected[1], atol=1e-5)
        for found, one in zip(by_weights, expected[2:], strict=True):
            self.assertAllClose(tf.add_n(found), one, atol=1e-5)
        for found, one in zip(ours.weights, whole.weights, strict=True):
            self.assertAllClose(found, one, atol=1e-6)

    @parameterized.named_parameters(*[(name, shape) for name, shape in SHAPES.items()])
    def test_frozen_or_in_inference_it_uses_and_keeps_its_statistics(self, shape):
        (stock, ours), x = make_pair(shape)
        before = [np.array(weight) for weight in ours.weights]
        self.assertAllEqual(ours(x, training=False), stock(x, training=False))
        ours.trainable = stock.trainable = False
        self.assertAllEqual(ours(x, training=True), stock(x, training=True))
        for weight, old in zip(ours.weights, before, strict=True):
            self.assertAllEqual(weight, old)

    @parameterized.product(policy=("mixed_float16", "mixed_bfloat16"), name=("maps", "rows"))
    def test_in_16_bits_it_infers_as_keras_does_within_rounding(self, policy, name):
        (stock, ours), x = make_pair(SHAPES[name], policy)
        found, expected = (tf.cast(layer(x, training=False), "float32") for layer in (ours, stock))
        rounding = {"mixed_float16": 2**-10, "mixed_bfloat16": 2**-7}[policy]
        self.assertAllClose(found, expected, rtol=2 * rounding, atol=rounding)

    @parameterized.product(
        policy=("mixed_float16", "mixed_bfloat16"),
        settings=({"strides": 2}, {"dilation_rate": 2}, {"padding": "same"}),
    )
    def test_in_16_bits_a_traced_convolution_takes_it_in(self, policy, settings):
        (_, norm), x = make_pair((2, 9, 9, 6), policy)
        (_, exact), _ = make_pair((2, 9, 9, 6))
        convolution = Conv2D(6, 3, use_bias=False, dtype=policy, **settings)
        kept = keras.layers.Conv2D(6, 3, use_bias=False, **settings)
        for layer in (convolution, kept):
            layer.build(x.shape)
        kept.set_weights(convolution.get_weights())
        infer = tf.function(lambda x: norm(convolution(x), training=False))
        operations = {
            operation.type for operation in infer.get_concrete_function(x).graph.get_operations()
        }
        self.assertFalse([name for name in operations if "BatchNorm" in name])
        rounding = {"mixed_float16": 2**-10, "mixed_bfloat16": 2**-7}[policy]
        found, expected = tf.cast(infer(x), "float32"), exact(kept(x), training=False)
        self.assertAllClose(found, expected, rtol=4 * rounding, atol=8 * rounding)

    def test_a_convolution_of_any_stride_and_padding_is_taken_in_rightly(self):
        (_, norm), _ = make_pair((1, 6, 6, 512), "mixed_bfloat16")
        (_, exact), _ = make_pair((1, 6, 6, 512))
        kernel = tf.random.stateless_normal((3, 3, 6, 512), (0, 1), stddev=0.1)
        images = tf.random.stateless_normal((1, 12, 12, 6), (0, 2))
        for strides, paddings in (((2, 3), "VALID"), ((2, 2), [[0, 0], [1, 0], [1, 0], [0, 0]])):

            @tf.function
            def infer(x, norm, strides=strides, paddings=paddings):
                maps = tf.nn.conv2d(x, tf.cast(kernel, x.dtype), strides, paddings)
                return tf.cast(norm(maps, training=False), "float32")

            with mock.patch.object(small_maps, "_multiplies_tiles", return_value=True):
                found = infer(tf.cast(images, "bfloat16"), norm)
            expected = infer(images, exact)
            self.assertAllClose(found, expected, rtol=0.05, atol=0.05)

    def test_a_frozen_one_in_training_leaves_the_convolution_as_it_is(self):
        (_, norm), x = make_pair(SHAPES["maps"], "mixed_bfloat16")
        norm.trainable = False
        convolution = Conv2D(6, 1, use_bias=False, dtype="mixed_bfloat16")
        infer = tf.function(lambda x: norm(convolution(x), training=True))
        operations = infer.get_concrete_function(x).graph.get_operations()
        self.assertIn("FusedBatchNormV3", {operation.type for operation in operations})

    @parameterized.parameters("float32", "mixed_bfloat16")
    def test_in_inference_gradients_are_those_of_keras(self, policy):
        (_, ours), x = make_pair(SHAPES["maps"], policy)
        (stock, _), _ = make_pair(SHAPES["maps"])
        gradients = []
        for layer in (ours, stock):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.cast(layer(x, training=False), "float32") ** 2)
            gradients.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
        for one, other in zip(*gradients, strict=True):
            self.assertAllClose(one, other, rtol=1e-4 if policy == "float32" else 0.05, atol=0.05)

    def test_comes_back_from_its_config_inside_a_model(self):
        inputs = keras.Input((4, 4, 3))
        model = keras.Model(inputs, BatchNormalization(momentum=0.7, name="norm")(inputs))
        copy = keras.models.Model.from_config(model.get_config())
        self.assertIsInstance(copy.get_layer("norm"), BatchNormalization)
        self.assertEqual(copy.get_layer("norm").momentum, 0.7)

    def test_config_is_that_of_a_plain_layer(self):
        (stock, ours), _ = make_pair(SHAPES["rows"])
        expected = stock.get_config() | {"name": ours.name}
        self.assertEqual(ours.get_config(), expected)
        self.assertFalse(expected["synchronized"])
        copy = BatchNormalization.from_config(expected | {"synchronized": True})
        self.assertFalse(copy.synchronized)  # On one device there is nothing to choose.

    def test_with_xla(self):
        (stock, ours), x = make_pair(SHAPES["maps"])
        compiled = tf.function(lambda: ours(x, training=True), jit_compile=True)
        self.assertAllClose(compiled(), stock(x, training=True), atol=2e-5)


if __name__ == "__main__":
    tf.test.main()
