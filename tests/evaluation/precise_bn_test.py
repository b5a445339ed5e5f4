import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.precise_bn import apply_precise_bn, temporary_precise_bn
from pixpro_keras.layers import BatchNormalization
from tests.helpers.replicas import two_cpus


def two_norms(seed=0):
    """`BN -> 1x1 convolution -> BN` with random scales, on 3 channels."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, 3))
    x = keras.layers.BatchNormalization(
        momentum=0.9, gamma_initializer="random_normal", beta_initializer="random_normal", name="a"
    )(inputs)
    x = keras.layers.Conv2D(4, 1, name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.7, name="b")(x)
    return keras.Model(inputs, x)


def random_batches(sizes=(3, 5, 2)):
    rng = np.random.default_rng(0)
    # Batches of different means, so that the variance between them counts.
    return [rng.normal(k, 1 + k, (n, 4, 4, 3)).astype("float32") for k, n in enumerate(sizes)]


def statistics(layer):
    return layer.moving_mean.numpy(), layer.moving_variance.numpy()


def combine(outputs):
    """Statistics of all pixels of all batches together."""
    pixels = np.concatenate([one.reshape(-1, one.shape[-1]) for one in outputs]).astype("float64")
    return pixels.mean(axis=0), pixels.var(axis=0)


class ReestimateBatchNormTest(tf.test.TestCase):
    def test_against_numpy(self):
        model, batches = two_norms(), random_batches()
        gamma, beta = (w.numpy() for w in (model.get_layer("a").gamma, model.get_layer("a").beta))
        kernel, bias = model.get_layer("conv").get_weights()
        second = []
        for x in batches:  # In training mode each batch is normalized by its own statistics.
            mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            normal = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
            second.append(normal @ kernel[0, 0] + bias)

        apply_precise_bn(model, batches)

        self.assertAllClose(statistics(model.get_layer("a")), combine(batches), rtol=1e-5)
        self.assertAllClose(statistics(model.get_layer("b")), combine(second), rtol=1e-4, atol=1e-5)

    def test_for_a_while(self):
        model, batches = two_norms(), random_batches()
        before = model.get_weights()
        with temporary_precise_bn(model, batches):
            self.assertAllClose(
                statistics(model.get_layer("a")), combine(batches), rtol=1e-5, atol=1e-6
            )
        for weight, value in zip(model.get_weights(), before, strict=True):
            self.assertAllEqual(weight, value)

    def test_first_layer_does_not_depend_on_the_batch_size(self):
        images = np.concatenate(random_batches())
        results = []
        for size in (1, 4, 10):
            model = two_norms()
            apply_precise_bn(model, (images[k : k + size] for k in range(0, 10, size)))
            results.append(np.stack(statistics(model.get_layer("a"))))
        self.assertAllClose(results[0], results[2], rtol=1e-4)
        self.assertAllClose(results[1], results[2], rtol=1e-4)

    def test_each_shape_stays_static(self):
        """Detectors need static shapes, since their anchors depend on the image size."""
        seen = []

        class Static(keras.Model):
            def __init__(self):
                super().__init__()
                self.norm = keras.layers.BatchNormalization()

            def call(self, images, training=None):
                seen.append(images.shape.as_list())
                return self.norm(images, training=training)

        model = Static()
        model(np.zeros((1, 4, 4, 3), "float32"))
        seen.clear()
        shapes = [(2, 4, 6, 3), (2, 6, 4, 3), (2, 6, 6, 3), (2, 4, 6, 3)]
        apply_precise_bn(model, [np.zeros(shape, "float32") for shape in shapes])
        self.assertEqual(seen, [list(shape) for shape in shapes[:3]])

    def test_nothing_else_changes(self):
        model = two_norms()
        trainable = [v.numpy() for v in model.trainable_variables]
        apply_precise_bn(model, random_batches())
        for before, after in zip(trainable, model.trainable_variables, strict=True):
            self.assertAllEqual(before, after)
        self.assertEqual(model.get_layer("a").momentum, 0.9)
        self.assertEqual(model.get_layer("b").momentum, 0.7)
        # Training goes on as it would have: the momentum is not baked into anything.
        layer, x = model.get_layer("a"), random_batches()[0]
        before = layer.moving_mean.numpy()
        model(x, training=True)
        self.assertAllClose(layer.moving_mean, 0.9 * before + 0.1 * x.mean(axis=(0, 1, 2)), 1e-5)

    def test_broken_statistics_are_replaced(self):
        model, batches = two_norms(), random_batches()
        model.get_layer("a").moving_mean.assign([np.nan] * 3)
        apply_precise_bn(model, batches)
        self.assertAllClose(statistics(model.get_layer("a")), combine(batches), rtol=1e-5)

    def test_frozen_layer_keeps_its_statistics(self):
        model, batches = two_norms(), random_batches()
        model.get_layer("a").trainable = False
        apply_precise_bn(model, batches)
        self.assertAllEqual(statistics(model.get_layer("a")), [np.zeros(3), np.ones(3)])
        self.assertNotAllClose(statistics(model.get_layer("b"))[1], np.ones(4), rtol=1e-2)

    def test_reaches_nested_models(self):
        inner = two_norms()
        inputs = keras.Input((None, None, 3))
        outer = keras.Model(inputs, inner(inputs))
        batches = random_batches()
        apply_precise_bn(outer, batches)
        self.assertAllClose(statistics(inner.get_layer("a")), combine(batches), rtol=1e-5)

    def test_without_batches_or_after_a_failure_all_is_as_before(self):
        def failing():
            yield random_batches()[0]
            raise OSError("disk")

        model = two_norms()
        before = model.get_weights()
        with self.assertRaisesRegex(ValueError, "`batches`"):
            apply_precise_bn(model, [])
        with self.assertRaisesRegex(OSError, "disk"):
            apply_precise_bn(model, failing())
        for one, other in zip(before, model.get_weights(), strict=True):
            self.assertAllEqual(one, other)
        self.assertEqual(model.get_layer("a").momentum, 0.9)

    def test_network_without_batch_norm(self):
        model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Conv2D(1, 1)])
        apply_precise_bn(model, [])

    def test_model_of_a_mirrored_strategy(self):
        batches = random_batches()
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            model = two_norms()
        apply_precise_bn(model, batches)
        for copy in model.get_layer("a").moving_mean.value.values:
            self.assertAllClose(copy, combine(batches)[0], rtol=1e-5)

    def test_replicas_normalize_a_batch_by_all_of_it(self):
        def network():
            layers = [keras.Input((None, None, 3)), BatchNormalization(), keras.layers.ReLU()]
            return keras.Sequential([*layers, keras.layers.Conv2D(4, 1), BatchNormalization()])

        batches, strategy = random_batches((4, 6)), two_cpus()
        single = network()
        with strategy.scope():
            mirrored = network()
        mirrored.set_weights(single.get_weights())
        apply_precise_bn(single, batches)
        apply_precise_bn(mirrored, batches, strategy)
        for one, two in zip(single.weights, mirrored.weights, strict=True):
            self.assertAllClose(one, two, rtol=1e-5, atol=1e-6, msg=one.path)
        with self.assertRaisesRegex(ValueError, "3 rows"):
            apply_precise_bn(mirrored, random_batches((3,)), strategy)


if __name__ == "__main__":
    tf.test.main()
