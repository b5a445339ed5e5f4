from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.losses import pixel_contrast, spread_terms
from pixpro_keras.methods import PixContrast, PixPro
from pixpro_keras.ops import global_covariance, l2_normalize, to_pixels
from tests.helpers.tiny_networks import pyramid_method, random_batch


def build(cls=PixPro, **kwargs):
    return pyramid_method(cls, **kwargs)


class PixelLevelsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.batch = random_batch(4, image_size=64)

    def test_each_level_has_a_projector_of_its_own_on_the_backbones_map(self):
        method = build(pixel_levels=("c3", "c5"))
        maps = method.encoder(self.batch["view1"])
        sizes = {name: x.shape[1] for name, x in maps["pixel"].items()}
        self.assertEqual(sizes, {"c3": 8, "c5": 2})
        heads = method.encoder.level_heads["pixel"]
        self.assertAllClose(maps["pixel"]["c5"], heads["c5"](maps["features"]))
        self.assertIsNot(heads["c3"], heads["c5"])

    @parameterized.parameters(PixPro, PixContrast)
    def test_loss_is_the_mean_of_the_levels(self, cls):
        method = build(cls, pixel_levels=("c4", "c5"))
        found = method(self.batch)["pixel"]
        total = 0.0
        for one, other in ((1, 2), (2, 1)):
            online = method.encoder(self.batch[f"view{one}"])["pixel"]
            target = method.target_encoder(self.batch[f"view{other}"])["pixel"]
            coordinates = self.batch[f"coord{one}"], self.batch[f"coord{other}"]
            for level in ("c4", "c5"):
                maps = online[level], target[level]
                total += method.pixel_level(*maps, *coordinates, training=False)["loss"] / 2
        self.assertAllClose(found, total, rtol=1e-5)

    def test_c5_alone_is_the_method_without_levels(self):
        self.assertEqual(list(build().encoder.heads), ["pixel"])
        self.assertAllClose(
            build(pixel_levels=["c5"])(self.batch)["pixel"], build()(self.batch)["pixel"]
        )

    @pytest.mark.slow
    def test_everything_is_trained(self):
        method = build(
            pixel_levels=("c4",),
            instance_weight=1.0,
            instance_form="contrastive",
            base_momentum=0.5,
        )
        before = [v.numpy() for v in method.trainable_variables]
        step = tf.function(method.train_step)
        for seed in range(3):
            batch = random_batch(4, image_size=64, seed=seed)
            step({key: tf.constant(value) for key, value in batch.items()})
        for old, variable in zip(before, method.trainable_variables, strict=True):
            self.assertNotAllClose(old, variable, rtol=0, atol=0, msg=variable.path)

    @parameterized.parameters(
        ({"pixel_levels": ()}, "different levels"),
        ({"pixel_levels": ("c5", "c5")}, "different levels"),
        ({"pixel_levels": ("c2",)}, "must be one of"),
        ({"pixel_levels": ("c4",)}, "without c5 needs an instance branch"),
        ({"pixel_levels": ("c4", "c5"), "use_fpn": True}, "no FPN"),
    )
    def test_refuses_levels_that_cannot_train(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            build(**arguments)


class LocalViewsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.batch = random_batch(4, image_size=64)
        small = random_batch(4, image_size=32, seed=1)
        self.local = small["view1"], small["coord1"]
        self.both = self.batch | {
            "local_views": np.stack([self.local[0]] * 2, axis=1),
            "local_coords": np.stack([self.local[1]] * 2, axis=1),
        }

    def expected(self, method, local, coord):
        """The pixel loss of both directions, and of a local view against both targets."""
        views = [(self.batch[f"view{n}"], self.batch[f"coord{n}"]) for n in (1, 2)]

        def loss(online, target):
            maps = method.encoder(online[0])["pixel"], method.target_encoder(target[0])["pixel"]
            return method.pixel_level(*maps, online[1], target[1], training=False)["loss"]

        both = loss(views[0], views[1]) + loss(views[1], views[0])
        return both, sum(loss((local, coord), view) for view in views)

    def test_each_counts_as_much_as_both_directions(self):
        for cls in (PixPro, PixContrast):
            method = build(cls)
            both, local = self.expected(method, *self.local)
            self.assertAllClose(method(self.both)["pixel"], (both + 2 * local) / 3, rtol=1e-5)

    def test_the_instance_branch_sees_them(self):
        method = build(instance_weight=1.0, pixel_weight=0.0, instance_form="contrastive")
        self.assertNotAllClose(method(self.both)["instance"], method(self.batch)["instance"])

    def test_passes_add_up_to_the_call(self):
        method = build(PixContrast, negatives="other_images")
        total = sum(one()["pixel"] for one in method.passes(self.both))
        self.assertAllClose(total, method(self.both, training=True)["pixel"], rtol=1e-4)


class OnlineTargetTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.batch = random_batch(4, image_size=64)

    def build(self, **kwargs):
        arguments = {"instance_weight": 1.0, "instance_form": "contrastive"}
        return build(PixContrast, use_target=False, **arguments | kwargs)

    def views_of(self, method):
        """Maps and coordinates of both views, which batch norm sees as one batch."""
        views = np.concatenate([self.batch["view1"], self.batch["view2"]])
        online = method.encoder(views, training=True)
        halves = [{name: x[side] for name, x in online.items()} for side in (np.s_[:4], np.s_[4:])]
        return [(half, self.batch[f"coord{n}"]) for n, half in enumerate(halves, 1)]

    def test_the_other_view_is_seen_by_the_online_encoder(self):
        method = self.build(negatives="batch")
        expected = 0.0
        view1, view2 = self.views_of(method)
        for (maps, coord), (other_maps, other_coord) in ((view1, view2), (view2, view1)):
            pixels = maps["pixel"], other_maps["pixel"]
            expected += method.pixel_level(*pixels, coord, other_coord, training=True)["loss"]
        self.assertAllClose(method(self.batch, training=True)["pixel"], expected, rtol=1e-5)

    def test_there_is_no_second_encoder(self):
        method = self.build()
        self.assertFalse(hasattr(method, "target_encoder"))
        self.assertLen(method.weights, len(method.encoder.weights) + 1)  # And the step.
        self.assertEqual(method.before_step(tf.constant(0)), {})

    @pytest.mark.slow
    def test_gradients_of_the_passes_add_up_and_each_side_is_compared_with(self):
        local = random_batch(4, image_size=32, seed=1)
        batch = self.batch | {
            "local_views": local["view1"][:, None],
            "local_coords": local["coord1"][:, None],
        }
        method = self.build(negatives="other_images")
        with tf.GradientTape() as tape:
            outputs = method(batch, training=True)
            loss = outputs["pixel"] + outputs["instance"]
        variables = [v.value for v in method.trainable_variables]
        expected = tape.gradient(loss, variables)
        gradients, outputs = method._gradients(batch)
        self.assertAllClose(outputs["loss"], loss, rtol=1e-4)
        for gradient, other, variable in zip(gradients, expected, variables, strict=True):
            self.assertAllClose(gradient, other, rtol=1e-2, atol=1e-4, msg=variable.name)

    def test_a_config_keeps_it(self):
        method = self.build()
        again = type(method).from_config(method.get_config())
        self.assertFalse(again.has_target)


class NegativesTest(tf.test.TestCase, parameterized.TestCase):
    def test_those_of_the_batch_are_the_pixels_of_all_images(self):
        batch = random_batch(4, image_size=64)
        method = build(PixContrast, negatives="batch", temperature=0.2)
        rng = np.random.default_rng(0)
        query, key = rng.normal(size=(2, 4, 4, 8)).astype("float32")
        positives = np.eye(4, dtype="float32")[None].repeat(4, axis=0)
        expected = pixel_contrast(query, key, positives, 0.2, key.reshape(-1, 8)) / 2
        self.assertAllClose(method.one_way(query, key, positives), expected)
        self.assertGreater(
            method(batch)["pixel"], build(PixContrast, temperature=0.2)(batch)["pixel"]
        )

    def test_those_of_other_images_leave_out_the_own(self):
        rng = np.random.default_rng(0)
        query, key = rng.normal(size=(2, 4, 4, 8)).astype("float32")
        positives = np.eye(4, dtype="float32")[None].repeat(4, axis=0)
        ids = np.arange(4), np.arange(4).repeat(4)
        expected = pixel_contrast(query, key, positives, 0.2, key.reshape(-1, 8), ids) / 2
        method = build(PixContrast, negatives="other_images", temperature=0.2)
        self.assertAllClose(method.one_way(query, key, positives), expected)

    def test_those_of_a_queue_are_one_pixel_of_each_image_of_earlier_batches(self):
        batch = random_batch(4, image_size=64)
        method = build(PixContrast, negatives="queue", queue_size=16, temperature=0.2)
        rng = np.random.default_rng(0)
        query, key = rng.normal(size=(2, 4, 4, 8)).astype("float32")
        positives = np.eye(4, dtype="float32")[None].repeat(4, axis=0)
        ids = np.arange(4), np.full(16, 7)
        expected = pixel_contrast(query, key, positives, 0.2, method.queue.read(), ids) / 2
        self.assertAllClose(method.one_way(query, key, positives), expected)
        for step in (0, 3):  # the place within the map follows the step
            method.step.assign(step)
            start = int(method.queue.position)
            method(batch, training=True)
            for number, view in enumerate(("view1", "view2")):
                pixels = to_pixels(method.target_encoder(batch[view], training=True)["pixel"])
                kept = method.queue.read()[start + 4 * number :][:4]
                self.assertAllClose(kept, l2_normalize(pixels[:, step]), rtol=1e-4, atol=1e-5)
        method(batch)  # outside of training nothing is kept
        self.assertEqual(int(method.queue.position) % 16, 0)

    @parameterized.parameters(True, False)
    def test_all_directions_of_a_step_see_the_same_queue(self, use_target):
        batch, local = random_batch(2, image_size=64), random_batch(2, image_size=32)
        batch["local_views"] = np.stack([local["view1"], local["view2"]], axis=1)
        batch["local_coords"] = np.stack([local["coord1"], local["coord2"]], axis=1)
        method = build(PixContrast, negatives="queue", queue_size=16, use_target=use_target)
        before = method.queue.read()
        seen = []
        read = method.queue.read
        with mock.patch.object(method.queue, "read", lambda: seen.append(read()) or seen[-1]):
            method(batch, training=True)
        self.assertLen(seen, 6)  # Two directions, and two local views, to both views each.
        for keys in seen:
            self.assertAllEqual(keys, before)
        self.assertEqual(int(method.queue.position), 4)  # Both images of both views, once.

    @parameterized.parameters(
        ({"negatives": "pixels"}, "negatives"),
        ({"negatives": "queue", "pixel_levels": ("c4", "c5")}, "pixel loss on one map"),
        ({"negatives": "queue", "use_fpn": True}, "pixel loss on one map"),
    )
    def test_others_are_refused(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            build(PixContrast, **arguments)


class SpreadTest(tf.test.TestCase):
    def test_weights_are_those_of_the_terms(self):
        batch = random_batch(4, image_size=64)
        method = build(variance_weight=2.0, covariance_weight=0.5)
        total = 0.0
        for view in ("view1", "view2"):
            pixels = to_pixels(method.encoder(batch[view])["pixel"])
            variance, covariance = spread_terms(global_covariance(pixels))
            total += (2 * variance + 0.5 * covariance) / 2
        self.assertAllClose(method(batch)["spread"], total, rtol=1e-5)


if __name__ == "__main__":
    tf.test.main()
