import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.layers.fpn import FPN


def maps(lowest=2, size=64, batch=2):
    rng = np.random.default_rng(0)
    return {
        f"c{level}": rng.normal(size=(batch, size >> level, size >> level, 3 * level)).astype("f")
        for level in range(lowest, 6)
    }


def convolve(image, kernel):
    """Same-padded correlation of `(H, W, C)` with `(k, k, C, D)`, pixel by pixel."""
    margin = kernel.shape[0] // 2
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
    result = np.zeros((*image.shape[:2], kernel.shape[3]))
    for i in range(image.shape[0]):
        for j in range(image.shape[1]):
            window = padded[i : i + kernel.shape[0], j : j + kernel.shape[1]]
            result[i, j] = np.einsum("abc,abcd->d", window, kernel)
    return result


class FpnTest(tf.test.TestCase, parameterized.TestCase):
    def test_equals_a_loop(self):
        keras.utils.set_random_seed(0)
        inputs = maps(lowest=3, batch=1)
        fpn = FPN(4, use_batch_norm=False)
        found = fpn(inputs)
        above = None
        for level in (5, 4, 3):
            lateral, output = fpn.laterals[f"p{level}"][0], fpn.outputs[f"p{level}"][0]
            x = convolve(inputs[f"c{level}"][0], lateral.kernel.numpy())
            if above is not None:
                x += np.kron(above, np.ones((2, 2, 1)))
            above = x
            expected = convolve(x, output.kernel.numpy())
            self.assertAllClose(found[f"p{level}"][0], expected, atol=1e-4)
        self.assertAllEqual(found["p6"], found["p5"][:, ::2, ::2])

    @parameterized.parameters(2, 3)
    def test_shapes(self, lowest):
        fpn = FPN(8)
        inputs = maps(lowest)
        outputs = fpn(inputs, training=True)
        shapes = {name: tuple(x.shape) for name, x in outputs.items()}
        self.assertEqual(shapes, fpn.compute_output_shape({k: v.shape for k, v in inputs.items()}))
        self.assertEqual(list(shapes), [f"p{level}" for level in range(lowest, 7)])
        self.assertEqual(shapes["p6"], (2, 1, 1, 8))

    def test_a_dilated_stage_is_not_enlarged(self):
        inputs = maps(3)
        inputs["c5"] = np.repeat(np.repeat(inputs["c5"], 2, axis=1), 2, axis=2)
        self.assertEqual(FPN(8)(inputs)["p5"].shape[1:3], (4, 4))

    def test_is_rebuilt_from_its_config(self):
        fpn = FPN(8, bn_momentum=0.7)
        inputs = maps()
        expected = fpn(inputs)
        copy = FPN.from_config(fpn.get_config())
        copy.build({name: x.shape for name, x in inputs.items()})
        copy.set_weights(fpn.get_weights())
        for name, x in copy(inputs).items():
            self.assertAllEqual(x, expected[name])

    @parameterized.parameters("float32", "mixed_float16", "mixed_bfloat16")
    def test_gradients_are_finite(self, policy):
        fpn = FPN(8, dtype=policy)
        inputs = maps()
        with tf.GradientTape() as tape:
            outputs = fpn(inputs, training=True)
            loss = sum(tf.reduce_sum(tf.cast(x, "float32") ** 2) for x in outputs.values())
        for gradient in tape.gradient(loss, [v.value for v in fpn.trainable_variables]):
            self.assertTrue(np.isfinite(gradient).all())

    def test_bad_sizes(self):
        inputs = maps()
        inputs["c4"] = inputs["c4"][:, :3, :3]
        with self.assertRaisesRegex(ValueError, "p4 has 3 x 3 cells below 2 x 2"):
            FPN(8)(inputs)
        with self.assertRaisesRegex(ValueError, "num_channels=0"):
            FPN(0)
        with self.assertRaisesRegex(ValueError, "takes c2 or c3 to c5. Received: c4, c5"):
            FPN(8)({name: maps()[name] for name in ("c4", "c5")})
        with self.assertRaisesRegex(ValueError, "takes c2 or c3 to c5. Received: p2"):
            FPN(8)({"p2": maps()["c2"]})


if __name__ == "__main__":
    tf.test.main()
