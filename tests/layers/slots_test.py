import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.slots import SlotHead, SlotPredictor


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class SlotHeadTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_a_loop(self):
        keras.utils.set_random_seed(0)
        head = SlotHead(hidden_dim=8, out_dim=4, num_slots=3, temperature=0.1)
        maps = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype("float32")
        found = head(maps)
        cells = found["projected"].numpy().reshape(2, 9, 4)
        prototypes = unit(head.prototypes.numpy())
        scores = found["scores"].numpy().reshape(2, 9, 3)
        for b in range(2):
            weights = np.zeros((9, 3))
            for i in range(9):
                cosines = prototypes @ unit(cells[b, i])
                self.assertAllClose(scores[b, i], cosines, atol=1e-5)
                weights[i] = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum() + 1e-6
            for k in range(3):
                slot = sum(weights[i, k] * cells[b, i] for i in range(9)) / weights[:, k].sum()
                self.assertAllClose(found["slots"][b, k], slot, atol=1e-5)

    def test_projector_is_gelu_and_batch_norm(self):
        keras.utils.set_random_seed(0)
        head = SlotHead(hidden_dim=8, out_dim=4, num_slots=3)
        maps = np.random.default_rng(0).normal(size=(2, 2, 2, 5)).astype("float32")
        x = maps
        for layer in head(maps) and head.projector.layers:
            if isinstance(layer, keras.layers.Conv2D):
                if layer.name != "linear1":
                    x = keras.activations.gelu(x)
                x = np.einsum("bhwc,cd->bhwd", x, layer.kernel.numpy()[0, 0]) + layer.bias.numpy()
            else:
                x = x / np.sqrt(1 + 1e-5)
        self.assertAllClose(head(maps)["projected"], x, atol=1e-5)

    def test_kernels_are_normal_with_the_authors_deviation(self):
        keras.utils.set_random_seed(0)
        head = SlotHead(hidden_dim=128, out_dim=64, num_slots=3)
        head.build((None, 2, 2, 128))
        predictor = SlotPredictor(hidden_dim=128, out_dim=64)
        kernels = [
            np.asarray(weight)
            for weight in (*head.projector.weights, *predictor.weights)
            if weight.name == "kernel"
        ]
        self.assertLen(kernels, 6)
        for kernel in kernels:
            self.assertAllClose(kernel.std(), 0.02, rtol=0.03)
            self.assertGreater(np.abs(kernel).max(), 2.5 * 0.02)  # not truncated at 2

    @parameterized.parameters("float32", "mixed_float16", "mixed_bfloat16")
    def test_gradients_are_finite(self, policy):
        head = SlotHead(hidden_dim=8, out_dim=4, num_slots=3, dtype=policy)
        predictor = SlotPredictor(8, 4, dtype=policy)
        maps = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype("float32")
        with tf.GradientTape() as tape:
            outputs = head(maps, training=True)
            y = predictor(outputs["slots"], np.ones((2, 3), "float32"), training=True)
            loss = tf.reduce_sum(tf.cast(y, "float32") ** 2) + tf.reduce_sum(outputs["scores"])
        variables = [v.value for v in head.trainable_variables + predictor.trainable_variables]
        for gradient in tape.gradient(loss, variables):
            self.assertTrue(np.isfinite(gradient).all())

    def test_rebuilds_from_its_config(self):
        head = SlotHead(8, 4, 3, 0.2, 0.8)
        copy = SlotHead.from_config(head.get_config())
        self.assertEqual(copy.get_config(), head.get_config())
        predictor = SlotPredictor(8, 4, 0.8)
        copy = SlotPredictor.from_config(predictor.get_config())
        self.assertEqual(copy.get_config(), predictor.get_config())

    @parameterized.parameters(
        ({"num_slots": 0}, "num_slots=0"), ({"temperature": 0}, "temperature=0")
    )
    def test_bad_arguments(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            SlotHead(**arguments)


if __name__ == "__main__":
    tf.test.main()
