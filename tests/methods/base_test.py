from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import ops
from pixpro_keras.backbones import require_feature_map
from pixpro_keras.backbones.dtype_policies import global_policy
from pixpro_keras.methods import METHODS, PixPro
from tests.helpers.replicas import per_replica, two_cpus
from tests.helpers.steps import TINY, build, scalars, traced_step, variables
from tests.helpers.tiny_networks import random_batch, tiny_backbone

# Every method, those that have an instance branch with both of its forms.
CASES = (
    ("pixpro", {"instance_weight": 0.5}),
    ("pixcontrast", {"instance_weight": 1.0, "instance_form": "contrastive"}),
    (
        "pixcontrast",
        {"negatives": "other_images", "variance_weight": 1.0, "covariance_weight": 0.1},
    ),
    ("simclr", {}),
    ("byol", {}),
    ("mocov2", {"queue_size": 16}),
    ("densecl", {"queue_size": 16}),
    ("infomin", {"queue_size": 16}),
    ("slotcon", {"num_slots": 6}),
    ("supervised", {"num_classes": 3, "hidden_dim": None, "out_dim": None}),
)


def smooth(function):
    """Softplus in place of ReLU, whose gradient jumps at 0.

    Where rounding decides the sign of one value of some thousands, devices differ by more than any bound.
    """
    return mock.patch.object(tf.nn, "relu", tf.nn.softplus)(function)


class TrainStepTest(tf.test.TestCase, parameterized.TestCase):
    def tearDown(self):
        keras.mixed_precision.set_global_policy("float32")
        super().tearDown()

    @parameterized.parameters(
        {"method": "pixpro", "instance_weight": 0.5},
        {"method": "pixcontrast", "instance_weight": 1.0, "instance_form": "contrastive"},
    )
    def test_one_view_at_a_time_gives_the_same_gradients_as_both_together(self, method, **kwargs):
        model, batch = build(method, num_transform_layers=2, **kwargs), random_batch()
        before = model.get_weights()
        gradients, outputs = model._gradients(batch)
        after = model.get_weights()
        model.set_weights(before)
        with tf.GradientTape() as tape:
            expected = model(batch, training=True)
            loss = sum(expected[name] for name in model.loss_bounds)
        self.assertAllClose(outputs, expected | {"loss": loss}, rtol=1e-5)
        variables = model.trainable_variables
        together = tape.gradient(loss, [v.value for v in variables])
        for one, other in zip(gradients, together, strict=True):
            self.assertAllClose(one, other, rtol=1e-4, atol=1e-5)
        # Both views are in the moving statistics, in the same order.
        for one, other in zip(after, model.get_weights(), strict=True):
            self.assertAllClose(one, other, rtol=1e-5)

    @parameterized.parameters("pixpro", "pixcontrast")
    @pytest.mark.slow
    def test_large_maps_by_blocks_give_the_same_gradients(self, method):
        model, batch = build(method, use_propagation=True), random_batch()
        before = model.get_weights()
        expected, expected_outputs = model._gradients(batch)
        model.set_weights(before)
        with mock.patch.object(ops, "MAX_ROWS", 4):  # of the 16 pixels
            gradients, outputs = tf.function(model._gradients)(batch)
        self.assertAllClose(outputs, expected_outputs, rtol=1e-5)
        for one, two in zip(gradients, expected, strict=True):
            self.assertAllClose(one, two, rtol=1e-4, atol=1e-5)

    @parameterized.parameters(*CASES)
    @pytest.mark.slow
    @smooth
    def test_two_replicas_and_xla_equal_one_device(self, method, arguments):
        single, compiled = build(method, **arguments), build(method, **arguments)
        strategy = two_cpus()
        with strategy.scope():
            mirrored = build(method, synchronized=True, **arguments)
        step, mirrored_step = traced_step(single), traced_step(mirrored, strategy)

        for seed in range(5):
            batch = random_batch(seed=seed)
            # From the same state each time: five steps would amplify the rounding of the first.
            for one, two in zip(variables(single), variables(mirrored), strict=True):
                two.assign(one)
            expected = scalars(step(batch))
            if seed == 0:
                self.check_step_by_xla(compiled, batch, expected, single.weights)
            logs = scalars(mirrored_step(per_replica(strategy, batch)), strategy)
            for name in {"loss", "learning_rate", "target_momentum", "updates"} & set(expected):
                self.assertAllClose(logs[name], expected[name], rtol=3e-5, atol=1e-5, msg=name)
            for one, two in zip(variables(single), variables(mirrored), strict=True):
                # One device normalizes by the fused operation, which rounds otherwise.
                self.assertAllClose(two, one, rtol=3e-4, atol=4e-5, msg=one.path)
        for variable in mirrored.weights:
            copies = [v.numpy() for v in strategy.experimental_local_results(variable.value)]
            self.assertAllEqual(copies[0], copies[1], msg=variable.path)

    def check_step_by_xla(self, model, batch, expected, weights):
        """Compares a first step that XLA compiles with another one's logs and weights."""
        logs = scalars(tf.function(model.train_step, jit_compile=True, autograph=False)(batch))
        self.assertEqual(set(logs), set(expected))
        self.assertAllClose(logs["loss"], expected["loss"], rtol=1e-4)
        for one, two in zip(weights, model.weights, strict=True):
            self.assertAllClose(two, one, rtol=1e-3, atol=1e-4, msg=one.path)

    def test_target_moves_before_its_forward_pass(self):
        model = build()
        # Online and target differ from the start, so that the update is seen.
        for weight in model.encoder.trainable_variables:
            weight.assign_add(0.1 * tf.ones_like(weight))
        online = [w.numpy() for w in model.encoder.weights]
        target = [w.numpy() for w in model.target_encoder.weights]
        trained = [w.trainable for w in model.encoder.weights]
        step = traced_step(model)
        logs = scalars(step(random_batch()))
        self.assertAllClose(logs["target_momentum"], 0.9)
        for before, moved, is_trained, weight in zip(
            online, target, trained, model.target_encoder.weights, strict=True
        ):
            if is_trained:
                self.assertAllClose(weight, 0.9 * moved + 0.1 * before, atol=1e-6)
            elif "moving" in weight.path:
                # Its own batch statistics, not the online network's.
                self.assertNotAllClose(weight, moved)
        logs = scalars(step(random_batch(seed=1)))
        self.assertAllClose(logs["target_momentum"], 1 - 0.1 * (np.cos(np.pi / 20) + 1) / 2)

    def test_nothing_trains_the_target(self):
        model = build()
        trained = {v.path for v in model.trainable_variables}
        self.assertTrue(all("target" not in path for path in trained))
        self.assertLen(trained, len(model.trainable_variables))
        frozen = {id(v) for v in model.target_encoder.weights}
        self.assertEmpty([v for v in model.trainable_variables if id(v) in frozen])

    @pytest.mark.slow
    def test_accumulation_averages_the_parts(self):
        batch = random_batch(8)
        halves = [{k: v[:4] for k, v in batch.items()}, {k: v[4:] for k, v in batch.items()}]
        sgd = {"optimizer": keras.optimizers.SGD(1.0)}
        starts = build(**sgd).get_weights()
        moved = []
        for part in halves:
            model = build(optimizer=keras.optimizers.SGD(1.0))
            traced_step(model)(part)
            moved.append([v.numpy() for v in model.trainable_variables])
        whole = build(accumulate_steps=2, optimizer=keras.optimizers.SGD(1.0))
        logs = scalars(traced_step(whole)(batch))
        self.assertAllEqual(whole.step, 1)
        self.assertEqual(logs["updates"], 1)
        for a, b, both in zip(*moved, whole.trainable_variables, strict=True):
            self.assertAllClose(both, (a + b) / 2, atol=1e-5)
        self.assertNotAllClose(starts[0], whole.get_weights()[0])

    @parameterized.parameters("float32", "mixed_float16", "mixed_bfloat16")
    def test_every_step_is_applied(self, policy):
        keras.mixed_precision.set_global_policy(policy)
        model = build()
        step = traced_step(model)
        for index in range(10):
            logs = scalars(step(random_batch(seed=index)))
            self.assertTrue(np.isfinite(list(logs.values())).all(), msg=str(logs))
        # The initial loss scale of 2**15 must not overflow here, so nothing may be skipped.
        self.assertEqual(logs["updates"], 10)
        for weight in model.weights:
            self.assertTrue(np.isfinite(np.array(weight)).all(), msg=weight.path)

    @pytest.mark.slow
    def test_overflow_on_one_replica_skips_the_step_on_all(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        strategy = two_cpus()
        with strategy.scope():
            model = build()
        batch = random_batch()
        batch["view1"][-1] = np.inf  # the second replica's last image
        before = [v.numpy() for v in model.trainable_variables]
        logs = scalars(traced_step(model, strategy)(per_replica(strategy, batch)), strategy)
        self.assertEqual(logs["updates"], 0)
        for old, variable in zip(before, model.trainable_variables, strict=True):
            self.assertAllEqual(old, variable)

    @parameterized.parameters(*CASES)
    def test_is_rebuilt_from_its_config(self, method, arguments):
        model = build(method, **arguments)
        config = keras.saving.serialize_keras_object(model)
        copy = keras.saving.deserialize_keras_object(config)
        self.assertIs(type(copy), METHODS[method])
        self.assertEqual(copy.get_config(), model.get_config())
        self.assertEqual([w.path for w in copy.weights], [w.path for w in model.weights])
        copy.set_weights(model.get_weights())
        batch = random_batch()
        self.assertAllClose(copy(batch), model(batch))

    def test_is_no_backbone_but_has_one(self):
        with self.assertRaisesRegex(
            ValueError, "class PixPro, which has one as its `encoder.backb"
        ):
            require_feature_map(build())
        with self.assertRaisesRegex(ValueError, "class Encoder, which has one as its `backbone`"):
            require_feature_map(build().encoder)
        with self.assertRaisesRegex(ValueError, "is a name, of which .*backbones.build` makes"):
            PixPro("resnet18_v1_5", **TINY)

    def test_one_level_needs_no_list(self):
        levels = build("pixcontrast", pixel_levels="c5").pixel_levels
        self.assertEqual(levels, ("c5",))

    def test_is_rebuilt_in_its_precision(self):
        with global_policy("mixed_bfloat16"):
            model = build(instance_weight=1.0)
        copy = PixPro.from_config(model.get_config())
        dtypes = [[x.compute_dtype for x in one._flatten_layers()] for one in (model, copy)]
        self.assertEqual(dtypes[1], dtypes[0])

    @pytest.mark.slow
    def test_a_function_on_the_device_changes_the_batch_first(self):
        batch = random_batch()
        plain, changed = build(), build(device_transform=lambda b: b | {"view1": 2 * b["view1"]})
        expected = scalars(traced_step(plain)(batch | {"view1": 2 * batch["view1"]}))
        self.assertAllClose(scalars(traced_step(changed)(batch)), expected, rtol=1e-5)
        self.assertNotIn("device_transform", changed.get_config())

    def test_regularizers_without_effect_are_named(self):
        inputs = keras.Input((16, 16, 3))
        maps = keras.layers.Conv2D(4, 4, 4, kernel_regularizer="l2", name="conv")(inputs)
        with self.assertLogs("absl", "WARNING") as logs:
            PixPro(keras.Model(inputs, maps), hidden_dim=4, out_dim=4, total_steps=1)
        self.assertIn("that of conv/kernel, have no effect", logs.output[0])

    def test_batch_norms_of_single_replicas_are_named(self):
        with two_cpus().scope(), self.assertLogs("absl", "WARNING") as logs:
            build(synchronized=False)
        self.assertIn("Batch norms of tiny, such as bn0, normalize with", logs.output[0])
        with two_cpus().scope(), self.assertNoLogs("absl", "WARNING"):
            build(synchronized=True)

    def test_logs_tell_the_steps_done(self):
        step = traced_step(build())
        self.assertEqual([scalars(step(random_batch()))["step"] for _ in range(2)], [1, 2])

    @parameterized.parameters(
        ("pixpro", {}, "coord1", r"have the keys view1, view2, coord1, coord2\. .*without coord1"),
        ("simclr", {}, "view2", r"have the keys view1, view2\. .*without view2"),
        ("infomin", {"queue_size": 16}, "jigsaw", "without jigsaw"),
        ("supervised", {"num_classes": 3, "hidden_dim": None, "out_dim": None}, "label", "label"),
    )
    def test_a_batch_without_what_the_method_needs_is_refused(self, method, arguments, key, error):
        batch = random_batch()
        del batch[key]
        with self.assertRaisesRegex(ValueError, error):
            build(method, **arguments).fit(tf.data.Dataset.from_tensors(batch), verbose=0)

    def test_pairs_of_views_and_corners_of_another_shape_are_refused(self):
        batch, model = random_batch(), build()
        pairs = tf.data.Dataset.from_tensors((batch["view1"], batch["view2"]))
        with self.assertRaisesRegex(ValueError, "PixPro must be a dict .*Received: a tuple"):
            model.fit(pairs, verbose=0)
        batch["coord2"] = batch["coord2"].reshape(-1, 2, 2)
        with self.assertRaisesRegex(ValueError, r"`coord2` must have .*shape=\(8, 2, 2\)"):
            model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)

    @parameterized.parameters(1, 4)
    def test_fit_takes_images_of_any_number_of_channels(self, channels):
        inputs = x = keras.Input((None, None, channels))
        for index in range(4):
            x = keras.layers.Conv2D(8, 3, 2, padding="same", name=f"conv{index}")(x)
        backbone = keras.Model(inputs, keras.layers.Conv2D(8, 3, 2, padding="same")(x))
        method = PixPro(backbone, pixel_levels=("c4", "c5"), **TINY)
        method.compile(keras.optimizers.SGD(0.1))
        views = np.random.default_rng(0).normal(size=(2, 8, 64, 64, channels))
        batch = random_batch() | {"view1": views[0], "view2": views[1]}
        before = backbone.get_weights()[0]
        method.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
        self.assertNotAllClose(backbone.get_weights()[0], before)
        # Commands and `pretrain` give three channels.
        with self.assertRaisesRegex(ValueError, rf"input has the shape \(.*, {channels}\)"):
            require_feature_map(backbone)

    @parameterized.parameters((3,), (1,))
    def test_labels_that_are_not_one_integer_for_each_image_are_refused(self, columns):
        model = build("supervised", num_classes=3, hidden_dim=None, out_dim=None)
        batch = random_batch() | {"label": np.zeros((8, columns), "int32")}
        with self.assertRaisesRegex(ValueError, rf"`label` must have .*\(8, {columns}\)"):
            model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)

    @parameterized.parameters(
        ({}, "local_coords. .*without local_coords"),
        ({"local_coords": np.zeros((8, 4), "float32")}, r"local_coords` must .*\(8, 4\)"),
    )
    def test_local_views_without_their_corners_are_refused(self, coords, error):
        batch = random_batch() | {"local_views": np.zeros((8, 2, 16, 16, 3), "float32")} | coords
        with self.assertRaisesRegex(ValueError, error):
            build().check_batch(batch)

    @parameterized.parameters(True, False)
    def test_views_of_unknown_size_are_refused(self, use_propagation):
        model = build(use_propagation=use_propagation)
        data = tf.data.Dataset.from_tensors(random_batch())
        data = data.map(
            lambda batch: (
                batch
                | {
                    "view1": tf.ensure_shape(
                        tf.py_function(lambda x: x, [batch["view1"]], tf.float32),
                        (8, None, None, 3),
                    )
                }
            )
        )
        with self.assertRaisesRegex(ValueError, "static height and width"):
            model.fit(data, verbose=0)

    @parameterized.parameters(((8, None),), (None,))
    def test_corners_of_unknown_shape_are_not_refused(self, shape):
        signature = {key: tf.TensorSpec(value.shape) for key, value in random_batch().items()}
        signature["coord1"] = tf.TensorSpec(shape)
        tf.function(build().check_batch).get_concrete_function(signature)

    def test_fit_takes_no_step_at_the_end_of_data_of_unknown_size(self):
        batch, models = random_batch(), [build() for _ in range(2)]
        for one, two in zip(*(model.weights for model in models), strict=True):
            two.assign(one)
        data = tf.data.Dataset.from_tensors(batch).repeat(3)
        unknown = data.filter(lambda one: True)
        for model, batches in zip(models, (data, unknown), strict=True):
            model.fit(batches, epochs=2, verbose=0)
            self.assertEqual(model.steps_done(), 6)
        for one, two in zip(*(model.weights for model in models), strict=True):
            self.assertAllClose(one, two, rtol=1e-6, msg=one.path)

    def test_fit_trains(self):
        model = build(optimizer=keras.optimizers.SGD(0.05))
        data = tf.data.Dataset.from_tensors(random_batch()).repeat(30)
        history = model.fit(data, epochs=2, verbose=0).history
        self.assertAllEqual(model.step, 60)
        self.assertLess(history["loss"][-1], -2.0)

    @pytest.mark.slow
    def test_pixpro_learns_and_reaches_its_bound(self):
        model = build(optimizer=keras.optimizers.SGD(0.05, momentum=0.9), total_steps=300)
        step = traced_step(model)
        batch = {k: tf.constant(v[:-1]) for k, v in random_batch().items()}  # all overlap
        for _ in range(300):
            logs = scalars(step(batch))
        self.assertLess(logs["loss"], -3.5)
        self.assertGreaterEqual(logs["loss"], -4.0)

    @parameterized.parameters(
        {"total_steps": 0}, {"base_momentum": 1.5}, {"accumulate_steps": 0}, {"threshold": 0}
    )
    def test_bad_arguments(self, **kwargs):
        with self.assertRaisesRegex(ValueError, next(iter(kwargs))):
            PixPro(tiny_backbone(), **(TINY | kwargs))


if __name__ == "__main__":
    tf.test.main()
