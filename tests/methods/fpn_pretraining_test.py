import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.methods import PixContrast, PixPro
from tests.helpers.tiny_networks import pyramid_method, random_batch


def build(cls=PixPro, **kwargs):
    return pyramid_method(cls, **({"use_fpn": True} | kwargs))


class FpnPretrainingTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.batch = random_batch(4, image_size=64)

    @parameterized.parameters(PixPro, PixContrast)
    def test_loss_is_the_mean_of_the_levels(self, cls):
        method = build(cls)
        online, target = (
            [encoder(self.batch[view])["pixel"] for view in ("view1", "view2")]
            for encoder in (method.encoder, method.target_encoder)
        )
        self.assertEqual(list(online[0]), ["p3", "p4", "p5", "p6"])
        self.assertEqual([x.shape[1] for x in online[0].values()], [8, 4, 2, 1])
        losses = []
        for level in online[0]:
            total = 0.0
            for one, other in ((0, 1), (1, 0)):
                coordinates = self.batch[f"coord{one + 1}"], self.batch[f"coord{other + 1}"]
                x, t = online[one][level], target[other][level]
                total += method.pixel_level(x, t, *coordinates, training=False)["loss"]
            losses.append(total)
        found = method(self.batch)
        self.assertAllClose(found["pixel"], np.mean(losses), rtol=1e-5)
        self.assertGreater(np.ptp(losses), 0)

    def test_instance_branch_stays_on_c5(self):
        method = build(instance_weight=1.0)
        outputs = method.encoder(self.batch["view1"])
        self.assertEqual(outputs["instance"].shape, (4, 2, 2, 8))

    @pytest.mark.slow
    def test_everything_is_trained_and_the_target_follows(self):
        method = build(base_momentum=0.5)
        before = [v.numpy() for v in method.trainable_variables]
        target = [v.numpy() for v in method.target_encoder.fpn.weights]
        step = tf.function(method.train_step)
        batch = {key: tf.constant(value) for key, value in self.batch.items()}
        for _ in range(3):
            step(batch)
        for old, variable in zip(before, method.trainable_variables, strict=True):
            self.assertNotAllClose(old, variable, rtol=0, atol=0, msg=variable.path)
        moved = method.target_encoder.fpn.weights
        self.assertTrue(any(not np.array_equal(a, b) for a, b in zip(target, moved, strict=True)))

    def test_needs_a_pixel_loss(self):
        with self.assertRaisesRegex(ValueError, "pixel_weight=0"):
            build(pixel_weight=0.0, instance_weight=1.0)


if __name__ == "__main__":
    tf.test.main()
