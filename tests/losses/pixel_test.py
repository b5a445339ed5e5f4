from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras import ops

from pixpro_keras import geometry
from pixpro_keras import ops as own_ops
from pixpro_keras.losses import pixel
from pixpro_keras.ops import cross_replica_concat, replica_index
from tests.helpers.replicas import two_cpus
from tests.helpers.shared_data import shared_path


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_case(seed=0, batch=3, pixels=6, channels=5):
    rng = np.random.default_rng(seed)
    query = rng.normal(size=(batch, pixels, channels)).astype("float32")
    key = rng.normal(size=(batch, pixels, channels)).astype("float32")
    positives = (rng.random((batch, pixels, pixels)) < 0.3).astype("float32")
    positives[1] = 0  # views that do not overlap
    positives[0, 2] = 0  # a pixel without a positive
    return query, key, positives


class PixelConsistencyTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        loss=(pixel.pixel_consistency, pixel.pixel_contrast), dtype=("bool", "float64", "int32")
    )
    def test_masks_of_any_dtype(self, loss, dtype):
        query, key, positives = random_case()
        expected = loss(query, key, positives)
        self.assertAllClose(loss(query, key, positives.astype(dtype)), expected)

    @parameterized.parameters(0, 1, 2)
    def test_matches_the_official_code(self, index):
        stored = np.load(shared_path("reference", "pixel_consistency_loss.npz"))
        names = [n for n in stored.files if n.startswith(f"loss{index}_T")]
        self.assertLen(names, 3)
        for name in names:
            threshold = float(name.split("_T")[1])
            query, key = stored[f"q{index}"], stored[f"k{index}"]
            size = query.shape[1:3]
            positives = geometry.positive_pairs(
                stored[f"coords_q{index}"], stored[f"coords_k{index}"], size, threshold
            )
            loss = 2.0 * pixel.pixel_consistency(
                query.reshape(len(query), -1, query.shape[-1]),
                key.reshape(len(key), -1, key.shape[-1]),
                positives,
            )
            self.assertAllClose(loss, stored[name], atol=1e-5, rtol=0, msg=name)

    def test_equals_a_loop(self):
        query, key, positives = random_case()
        losses = []
        for q, k, mask in zip(unit(query), unit(key), positives, strict=True):
            pairs = np.argwhere(mask)
            losses.append(-np.mean([q[i] @ k[j] for i, j in pairs]) if len(pairs) else 0.0)
        self.assertAllClose(
            pixel.pixel_consistency(query, key, positives), np.mean(losses), atol=1e-6
        )

    def test_gradient_reaches_the_prediction_only(self):
        query, key, positives = (tf.constant(x) for x in random_case())
        with tf.GradientTape() as tape:
            tape.watch([query, key])
            loss = pixel.pixel_consistency(query, key, positives)
        d_query, d_key = tape.gradient(loss, [query, key])
        self.assertIsNone(d_key)
        self.assertGreater(np.abs(d_query[0]).max(), 0)
        self.assertAllEqual(d_query[1], np.zeros_like(query[1]))

    def test_zero_vectors_have_finite_gradients(self):
        query, key, positives = random_case()
        query = tf.Variable(np.zeros_like(query))
        with tf.GradientTape() as tape:
            loss = pixel.pixel_consistency(query, key, positives)
        self.assertLess(np.abs(tape.gradient(loss, query)).max(), 10)


def contrast_loop(query, key, positives, temperature, candidates=None):
    """The contrastive loss by its definition; k runs over the image's keys, or over candidates."""
    losses = []
    for q, k, mask in zip(unit(query), unit(key), positives, strict=True):
        per_pixel = []
        for i in range(len(q)):
            if not mask[i].any():
                continue
            everything = k if candidates is None else unit(candidates)
            total = sum(np.exp(q[i] @ c / temperature) for c in everything)
            found = sum(np.exp(q[i] @ k[j] / temperature) for j in np.flatnonzero(mask[i]))
            per_pixel.append(-np.log(found / total))
        losses.append(np.mean(per_pixel) if per_pixel else 0.0)
    return np.mean(losses)


def other_images_loop(query, key, positives, others, temperature):
    """The contrastive loss of one image by its definition; k runs over the positives and over others."""
    per_pixel = []
    for q, mask in zip(unit(query)[0], positives[0], strict=True):
        if mask.any():
            found = sum(np.exp(q @ unit(key)[0, j] / temperature) for j in np.flatnonzero(mask))
            total = found + sum(np.exp(q @ c / temperature) for c in unit(others))
            per_pixel.append(-np.log(found / total))
    return np.mean(per_pixel) if per_pixel else 0.0


class PixelContrastTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.1, 0.3, 1.0)
    def test_equals_a_loop(self, temperature):
        query, key, positives = random_case()
        expected = contrast_loop(query, key, positives, temperature)
        found = pixel.pixel_contrast(query, key, positives, temperature)
        self.assertAllClose(found, expected, atol=1e-5)

    @parameterized.parameters(0.1, 0.3)
    def test_with_candidates_equals_a_loop(self, temperature):
        query, key, positives = random_case()
        others = np.random.default_rng(1).normal(size=(7, 5)).astype("float32")
        candidates = np.concatenate([key.reshape(-1, 5), others])
        expected = contrast_loop(query, key, positives, temperature, candidates)
        found = pixel.pixel_contrast(query, key, positives, temperature, candidates)
        self.assertAllClose(found, expected, atol=1e-5)

    @parameterized.parameters(0.1, 0.3)
    def test_with_candidates_of_other_images_equals_a_loop(self, temperature):
        query, key, positives = random_case()
        losses = []
        for image in range(len(query)):
            own = [x[image : image + 1] for x in (query, key, positives)]
            others = np.delete(key, image, axis=0).reshape(-1, 5)
            losses.append(other_images_loop(*own, others, temperature))
        ids = np.arange(len(key)), np.repeat(np.arange(len(key)), key.shape[1])
        found = pixel.pixel_contrast(query, key, positives, temperature, key.reshape(-1, 5), ids)
        self.assertAllClose(found, np.mean(losses), atol=1e-5)

    def test_of_one_image_its_keys_as_candidates_change_nothing(self):
        query, key, positives = (x[:1] for x in random_case())
        loss = pixel.pixel_contrast(query, key, positives, 0.3)
        self.assertAllClose(pixel.pixel_contrast(query, key, positives, 0.3, key[0]), loss)

    @parameterized.parameters(False, True)
    def test_gradient_with_candidates_is_that_of_the_definition(self, is_of_other_images):
        query, key, positives = random_case()
        positives = np.maximum(positives, np.eye(len(positives[0]), dtype="float32"))
        candidates = key.reshape(-1, 5)
        ids = np.arange(len(key)), np.repeat(np.arange(len(key)), key.shape[1])

        def defined(x):
            x = tf.math.l2_normalize(x, axis=2)
            matched = positives * tf.exp(x @ unit(key).swapaxes(1, 2) / 0.3)
            found = tf.reduce_sum(matched, axis=2)
            others = tf.exp(tf.einsum("bic,kc->bik", x, unit(candidates)) / 0.3)
            if is_of_other_images:
                others = tf.concat([others * (ids[0][:, None, None] != ids[1]), matched], axis=2)
            return tf.reduce_mean(tf.math.log(tf.reduce_sum(others, axis=2) / found))

        def computed(x):
            used_ids = ids if is_of_other_images else None
            return pixel.pixel_contrast(x, key, positives, 0.3, candidates, used_ids)

        query = tf.constant(query)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(query)
            values = computed(query), defined(query)
        self.assertAllClose(*values, rtol=1e-6)
        gradients = [tape.gradient(value, query) for value in values]
        self.assertAllClose(*gradients, rtol=1e-5, atol=1e-7)

    def test_gradient_reaches_the_query_only(self):
        query, key, positives = (tf.constant(x) for x in random_case())
        candidates = tf.reshape(key, (-1, 5))
        with tf.GradientTape() as tape:
            tape.watch([query, key, candidates])
            loss = pixel.pixel_contrast(query, key, positives, 0.3, candidates)
        d_query, *others = tape.gradient(loss, [query, key, candidates])
        self.assertGreater(np.abs(d_query[0]).max(), 0)
        self.assertAllEqual(d_query[1], np.zeros_like(query[1]))
        self.assertEqual(others, [None, None])

    def test_two_replicas_equal_one_device(self):
        query, key, positives = random_case(batch=4)
        expected = pixel.pixel_contrast(query, key, positives, 0.3, key.reshape(-1, 5))
        strategy = two_cpus()

        def step():
            rows = 2 * replica_index() + tf.range(2)
            own = [tf.gather(x, rows) for x in (query, key, positives)]
            candidates = cross_replica_concat(tf.reshape(own[1], (-1, 5)))
            return pixel.pixel_contrast(*own, 0.3, candidates)

        losses = strategy.experimental_local_results(tf.function(lambda: strategy.run(step))())
        self.assertNotAllClose(losses[0], losses[1])
        self.assertAllClose(np.mean(losses), expected, rtol=1e-5)

    def test_gradient_is_finite_and_zero_without_positives(self):
        query, key, positives = (tf.constant(x) for x in random_case())
        with tf.GradientTape() as tape:
            tape.watch(query)
            loss = pixel.pixel_contrast(query, key, positives, 0.07)
        gradient = tape.gradient(loss, query)
        self.assertAllEqual(np.isfinite(gradient), np.ones(gradient.shape, bool))
        self.assertAllEqual(gradient[1], np.zeros_like(query[1]))
        self.assertAllEqual(gradient[0, 2], np.zeros_like(query[0, 2]))
        self.assertGreater(np.abs(gradient[0]).max(), 0)

    def test_all_pairs_positive_is_the_minimum(self):
        query, key, positives = random_case()
        loss = pixel.pixel_contrast(query, key, np.ones_like(positives), 0.3)
        self.assertAllClose(loss, 0.0, atol=1e-6)

    @parameterized.parameters(0, -0.3)
    def test_temperature_must_be_positive(self, temperature):
        with self.assertRaisesRegex(ValueError, "temperature.*must be positive"):
            pixel.pixel_contrast(*random_case(), temperature)


class PositivePairMetricsTest(tf.test.TestCase):
    def test_equals_a_loop(self):
        query, key, positives = random_case()
        cosines = [unit(query)[b, i] @ unit(key)[b, j] for b, i, j in np.argwhere(positives)]
        metrics = pixel.positive_pair_metrics(query, key, positives)
        self.assertAllClose(metrics["positive_cosine"], np.mean(cosines), atol=1e-6)
        self.assertAllClose(metrics["positive_share"], np.mean(positives))
        metrics = pixel.positive_pair_metrics(query, key, ops.zeros_like(positives))
        self.assertAllEqual(metrics["positive_cosine"], 0.0)
        self.assertAllEqual(metrics["positive_share"], 0.0)


def contrast_in_the_batch(query, key, positives):
    return pixel.pixel_contrast(query, key, positives, 0.3, tf.reshape(key, (-1, key.shape[2])))


@pytest.mark.slow
class LargeMapTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        loss=(pixel.pixel_consistency, pixel.pixel_contrast, contrast_in_the_batch),
        jit_compile=(False, True),
    )
    def test_by_blocks_of_a_lazy_mask_losses_and_gradients_are_the_same(self, loss, jit_compile):
        query, key, _ = (tf.constant(x) for x in random_case(pixels=24))
        coord1 = tf.constant([[0, 0, 0.8, 0.9], [0, 0, 0.1, 0.1], [0.9, 0.2, 0.1, 1]])
        coord2 = tf.constant([[0.1, 0.2, 1, 0.9], [0.5, 0.5, 1, 1], [0.1, 0.2, 0.8, 0.8]])

        @tf.function(jit_compile=jit_compile)
        def value_and_gradient(query, make_positives):
            with tf.GradientTape() as tape:
                tape.watch(query)
                value = loss(query, key, make_positives(coord1, coord2, (4, 6), 0.7))
            return value, tape.gradient(value, query)

        expected = value_and_gradient(query, geometry.positive_pairs)
        with mock.patch.object(own_ops, "MAX_ROWS", 7):  # 4 blocks of 6
            found = value_and_gradient(query, geometry.lazy_positive_pairs)
        self.assertGreater(np.abs(expected[1]).max(), 1e-3)
        for one, other in zip(found, expected, strict=True):
            self.assertAllClose(one, other, rtol=1e-5, atol=1e-7)


if __name__ == "__main__":
    tf.test.main()
