import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.methods import PixContrast, PixPro
from pixpro_keras.methods.instance_branch import InstanceBranch
from tests.helpers.tiny_networks import random_batch, tiny_backbone

TINY = {"hidden_dim": 32, "out_dim": 8, "total_steps": 20}


def unit(x):
    return x / np.linalg.norm(x)


def both_ways(branch, maps, training=False):
    """The sum of both directions' losses, and their mean metrics; maps of view 1 and 2, online and target."""
    z1, z2, t1, t2 = maps
    loss_12, metrics_12 = branch(z1, t2, training=training)
    loss_21, metrics_21 = branch(z2, t1, training=training)
    means = {name: (value + metrics_21[name]) / 2 for name, value in metrics_12.items()}
    return {"instance": loss_12 + loss_21} | means


class InstanceBranchTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.maps = [rng.normal(size=(5, 3, 4, 8)).astype("float32") for _ in range(4)]

    def test_predictor_form(self):
        branch = InstanceBranch("predictor", hidden_dim=16, out_dim=8)
        z1, z2, t1, t2 = self.maps
        p1, p2 = (branch.predictor(z, training=False).numpy() for z in (z1, z2))
        cosines = [
            unit(p[b].mean((0, 1))) @ unit(t[b].mean((0, 1)))
            for p, t in ((p1, t2), (p2, t1))
            for b in range(5)
        ]
        found = both_ways(branch, self.maps)
        self.assertAllClose(found["instance"], -2 * np.sum(cosines) / 5, rtol=1e-5)
        self.assertAllClose(found["instance_cosine"], np.mean(cosines), rtol=1e-5)

    def test_contrastive_form(self):
        branch = InstanceBranch("contrastive", temperature=0.5, out_dim=8)
        z1, z2, t1, t2 = ([unit(m.mean((0, 1))) for m in maps] for maps in self.maps)
        losses, hits = [], []
        for queries, keys in ((z1, t2), (z2, t1)):
            for b in range(5):
                logits = np.array([queries[b] @ key / 0.5 for key in keys])
                losses.append(np.log(np.exp(logits).sum()) - logits[b])
                hits.append(logits.argmax() == b)
        found = both_ways(branch, self.maps)
        self.assertAllClose(found["instance"], np.mean(losses), rtol=1e-5)
        self.assertAllClose(found["instance_top1"], np.mean(hits))
        self.assertEmpty(branch.weights)

    @parameterized.parameters("predictor", "contrastive")
    def test_is_rebuilt_from_its_config(self, form):
        branch = InstanceBranch(form, 0.3, 16, 8, 0.8)
        copy = InstanceBranch.from_config(branch.get_config())
        self.assertEqual(copy.get_config(), branch.get_config())

    @parameterized.parameters("predictor", "contrastive")
    def test_target_gets_no_gradient(self, form):
        branch = InstanceBranch(form, hidden_dim=16, out_dim=8)
        maps = [tf.Variable(m) for m in self.maps]
        with tf.GradientTape() as tape:
            loss = both_ways(branch, maps, training=True)["instance"]
        gradients = tape.gradient(loss, maps)
        self.assertEqual([g is None for g in gradients], [False, False, True, True])

    def test_terms_of_a_joint_method(self):
        batch = random_batch()
        keras.utils.set_random_seed(0)
        both = PixPro(tiny_backbone(), instance_weight=0.5, pixel_weight=2.0, **TINY)
        self.assertEqual(both.loss_bounds, {"pixel": (-8.0, 8.0), "instance": (-2.0, 2.0)})
        outputs = both(batch, training=False)
        # Weighted by the method: the same networks with weights of 1 give these terms.
        both.pixel_weight, both.instance_weight = 1.0, 1.0
        plain = both(batch, training=False)
        self.assertAllClose(outputs["pixel"], 2 * plain["pixel"])
        self.assertAllClose(outputs["instance"], 0.5 * plain["instance"])

    def test_instance_branch_alone(self):
        alone = PixContrast(
            tiny_backbone(),
            pixel_weight=0.0,
            instance_weight=1.0,
            instance_form="contrastive",
            **TINY,
        )
        self.assertEqual(alone.loss_bounds, {"instance": (0.0, None)})
        self.assertEqual(list(alone.encoder.heads), ["instance"])
        outputs = alone(random_batch(), training=True)
        self.assertEqual(set(outputs), {"instance", "instance_top1", "feature_std"})

    @parameterized.parameters(
        ({"instance_form": "siamese", "instance_weight": 1}, "Received: instance_form='siamese'"),
        ({"instance_temperature": 0, "instance_weight": 1}, "Received: instance_temperature=0"),
        ({"instance_form": "siamese"}, "Received: instance_form='siamese'"),
        ({"instance_weight": -1}, "Received: instance_weight=-1"),
        ({"pixel_weight": 0}, "must not both be 0"),
        ({"pixel_weight": 0, "instance_weight": 1, "variance_weight": 2}, "variance_weight=2"),
    )
    def test_bad_arguments(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            PixPro(tiny_backbone(), **TINY, **arguments)

    def test_the_branch_names_its_own_arguments(self):
        with self.assertRaisesRegex(ValueError, "`form` must be one of predictor, contrastive"):
            InstanceBranch("siamese")


if __name__ == "__main__":
    tf.test.main()
