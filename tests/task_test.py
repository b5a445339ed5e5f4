import contextlib
from types import MappingProxyType

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.optimizers import LARS, SGD
from pixpro_keras.task import Task
from tests.helpers.replicas import per_replica, two_cpus
from tests.helpers.steps import build, scalars, traced_step
from tests.helpers.tiny_networks import random_batch


def poison(batch, image=0):
    """Sets one pixel of a batch to NaN."""
    view = batch["view1"].copy()
    view[image, 0, 0, 0] = np.nan
    return batch | {"view1": view}


def values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


class BatchSizeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((7, 2), (6, 4), (2, 4))
    def test_parts_of_a_batch_are_equal(self, size, parts):
        model = build(accumulate_steps=parts)
        message = f"accumulate_steps={parts}, sizes of .*'view1': {size}"
        with self.assertRaisesRegex(ValueError, message):
            model.train_step(random_batch(size))

    def test_sizes_are_static(self):
        data = tf.data.Dataset.from_tensor_slices(random_batch(6)).batch(4)
        with self.assertRaisesRegex(ValueError, "static size: .*drop_remainder"):
            build().fit(data, verbose=0)

    def test_entries_of_other_batches_are_refused(self):
        batch = random_batch(6)
        batch["coord2"] = batch["coord2"][:1]
        with self.assertRaisesRegex(ValueError, "as many rows .*'coord1': 6, 'coord2': 1"):
            build().fit(tf.data.Dataset.from_tensors(batch), verbose=0)

    def test_weights_without_a_gradient_are_named(self):
        task = Regression(keras.optimizers.SGD(0.1))
        task.unused = task.add_weight(name="unused", shape=(3,))
        task.compile(keras.optimizers.SGD(0.1))
        task.optimizer.build(task.trainable_variables)
        with self.assertRaisesRegex(ValueError, "loss of Regression does not depend on .*unused"):
            task.train_step(points(0))

    def test_there_is_no_validation_loss(self):
        data, model = tf.data.Dataset.from_tensors(random_batch(4)), build()
        for arguments in ({"validation_data": data}, {"validation_split": 0.5}):
            with self.assertRaisesRegex(ValueError, "PixPro has no validation loss"):
                model.fit(data, verbose=0, **arguments)
        self.assertEqual(model.steps_done(), 0)
        with self.assertRaisesRegex(ValueError, "PixPro has no validation loss"):
            model.evaluate(data, verbose=0)

    def test_a_class_may_have_a_validation_of_its_own(self):
        class Validated(Regression):
            def test_step(self, data):
                return self(data)

        task, data = Validated("sgd"), tf.data.Dataset.from_tensors(points(0))
        history = task.fit(data, validation_data=data, verbose=0).history
        self.assertAllClose(history["val_error"], [task(points(0))["error"]])

    def test_there_are_no_predictions(self):
        with self.assertRaisesRegex(ValueError, "PixPro has no predictions: .*encoder.backbone"):
            build().predict(random_batch(4)["view1"], verbose=0)

    @parameterized.parameters(
        {"loss": "mse"}, {"metrics": ["mae"]}, {"loss_weights": {"error": 2.0}}
    )
    def test_losses_and_metrics_are_not_those_of_compile(self, **arguments):
        task, data = Regression("sgd"), tf.data.Dataset.from_tensors(points(0))
        with self.assertRaisesRegex(
            ValueError, "Regression takes no loss, loss weights or metrics"
        ):
            task.compile("sgd", **arguments)
        task.compile("sgd", metrics=[])
        task.fit(data, verbose=0)
        self.assertEqual(task.steps_done(), 1)


class NonfiniteStepTest(tf.test.TestCase):
    def tearDown(self):
        keras.mixed_precision.set_global_policy("float32")
        super().tearDown()

    def check(self, model, step, batches, strategy=None):
        """Runs a good, a bad and a good step. The bad one changes only the target and the step."""
        good, bad, last = batches
        self.assertEqual(scalars(step(good), strategy)["bad_steps"], 0)
        moving = {id(v) for v in model.target_encoder.weights}
        kept = [v for v in model.weights if v is not model.step and id(v) not in moving]
        before = values(kept), values(model.optimizer.variables)
        logs = scalars(step(bad), strategy)
        self.assertEqual(logs["bad_steps"], 1)
        self.assertEqual(model.steps_done(), 2)
        is_scaled = isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
        after = values(kept), values(model.optimizer.variables)
        for variable, one, two in zip(kept, before[0], after[0], strict=True):
            self.assertAllEqual(one, two, msg=variable.path)
        if not is_scaled:
            for one, two in zip(before[1], after[1], strict=True):
                self.assertAllEqual(one, two)
        for value in values(model.weights):
            self.assertTrue(np.isfinite(value).all())
        logs = scalars(step(last), strategy)
        self.assertEqual(logs["bad_steps"], 0)
        self.assertTrue(np.isfinite(logs["loss"]))
        self.assertEqual(logs["updates"], 2)

    def test_changes_nothing(self):
        model = build("pixpro", instance_weight=1.0)
        batches = [random_batch(seed=seed) for seed in range(3)]
        batches[1] = poison(batches[1])
        self.check(model, traced_step(model), batches)

    @pytest.mark.slow
    def test_with_a_loss_scale(self):
        keras.mixed_precision.set_global_policy("mixed_float16")
        model = build()
        model.optimizer.dynamic_scale.assign(64.0)
        batches = [random_batch(seed=seed) for seed in range(3)]
        batches[1] = poison(batches[1])
        self.check(model, traced_step(model), batches)
        # A scale that is too high is found by trying, and nothing bad.
        model.optimizer.dynamic_scale.assign(2.0**100)
        logs = scalars(traced_step(model)(batches[0]))
        self.assertEqual((logs["bad_steps"], logs["updates"]), (0, 2))
        self.assertAllEqual(model.optimizer.dynamic_scale, 2.0**99)

    @pytest.mark.slow
    def test_on_both_replicas_when_one_sees_it(self):
        strategy = two_cpus()
        with strategy.scope():
            model = build("densecl", synchronized=False, queue_size=16)
        batches = [random_batch(seed=seed) for seed in range(3)]
        batches[1] = poison(batches[1], image=7)
        batches = [per_replica(strategy, batch) for batch in batches]
        self.check(model, traced_step(model, strategy), batches, strategy)
        for variable in model.trainable_variables:
            one, two = strategy.experimental_local_results(variable.value)
            self.assertAllEqual(one, two)


class LossScaleTest(tf.test.TestCase):
    def test_the_optimizer_need_not_be_built_before(self):
        tasks = [
            Regression(keras.mixed_precision.LossScaleOptimizer(SGD(0.1), 2.0**9)) for _ in range(2)
        ]
        tasks[1].compile(keras.mixed_precision.LossScaleOptimizer(SGD(0.1), 2.0**9))
        self.assertFalse(tasks[1].optimizer.built)
        for task in tasks:
            step = traced_step(task)
            step(points(0))
            task.optimizer.dynamic_scale.assign(2.0)  # The graph must not keep the first one.
            step(points(1))
        self.assertAllClose(values(tasks[1].weights), values(tasks[0].weights), rtol=1e-5)


class Regression(Task):
    loss_bounds = MappingProxyType({"error": (0.0, None)})

    def __init__(self, optimizer):
        super().__init__()
        keras.utils.set_random_seed(0)
        self.hidden, self.out = keras.layers.Dense(4), keras.layers.Dense(1)
        self.hidden.build((None, 3))
        self.out.build((None, 4))
        self.compile(optimizer)
        self.optimizer.build(self.trainable_variables)

    def call(self, batch, training=False):
        return {"error": keras.ops.mean((self.out(self.hidden(batch["x"])) - batch["y"]) ** 2)}


def points(seed):
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(4, 3)).astype("float32"), "y": np.ones((4, 1), "float32")}


class SumOfTermsTest(tf.test.TestCase):
    def test_terms_are_not_added_one_by_one(self):
        # TensorFlow orders such additions anew in each process, also where operations are deterministic.
        class ThreeTerms(Regression):
            loss_bounds = MappingProxyType(dict.fromkeys(("a", "b", "c"), (0.0, None)))

            def call(self, batch, training=False):
                (error,) = super().call(batch).values()
                return {name: tf.identity(error, name="term") for name in self.loss_bounds}

        task = ThreeTerms(SGD(0.1))
        step = traced_step(task)
        logs = scalars(step(points(0)))
        self.assertAllClose(logs["loss"], logs["a"] + logs["b"] + logs["c"])
        loss = step.get_concrete_function(points(0)).structured_outputs["loss"]
        left, between = [loss.op], set()
        while left:
            one = left.pop()
            if "term" not in one.name:
                between.add(one.type)
                left += [x.op for x in one.inputs]
        self.assertEmpty(between & {"Add", "AddV2", "AddN"})


class ScaleUpdatesTest(tf.test.TestCase, parameterized.TestCase):
    def train(self, rate, make_optimizer, factor=1.0, scaled=("hidden", "out"), strategy=None):
        """Returns the weights of both layers after three steps."""
        with strategy.scope() if strategy else contextlib.nullcontext():
            task = Regression(make_optimizer(rate))
            for name in scaled:
                task.scale_updates(getattr(task, name).trainable_variables, factor)
        step = traced_step(task, strategy)
        for seed in range(3):
            step(per_replica(strategy, points(seed)) if strategy else points(seed))
        return {name: values(getattr(task, name).weights) for name in ("hidden", "out")}

    @parameterized.named_parameters(
        ("sgd", lambda rate: SGD(rate, 0.9, l2_decay=0.1)),
        ("lars", lambda rate: LARS(rate, 0.9, l2_decay=0.1)),
        ("adamw", lambda rate: keras.optimizers.AdamW(rate, weight_decay=0.1)),
        ("loss_scale", lambda rate: keras.mixed_precision.LossScaleOptimizer(SGD(rate), 2.0)),
        ("replicas", lambda rate: SGD(rate, 0.9, l2_decay=0.1), True),
    )
    def test_is_a_smaller_learning_rate(self, make_optimizer, on_replicas=False):
        strategy = two_cpus() if on_replicas else None
        smaller = self.train(0.05, make_optimizer, strategy=strategy)
        scaled = self.train(0.1, make_optimizer, factor=0.5, strategy=strategy)
        self.assertAllClose(scaled, smaller, rtol=1e-4, atol=1e-6)
        full = self.train(0.1, make_optimizer, strategy=strategy)
        self.assertNotAllClose(full["hidden"][0], smaller["hidden"][0], rtol=1e-2)

    def test_other_weights_keep_their_rate(self):
        start, full, scaled = (
            self.train(rate, lambda rate: SGD(rate, 0.0, l2_decay=0.0), factor, ["hidden"])
            for rate, factor in ((1e-30, 1.0), (1e-3, 1.0), (1e-3, 1e-6))
        )
        self.assertAllClose(scaled["hidden"], start["hidden"], atol=1e-7)
        self.assertNotAllClose(scaled["out"][0], start["out"][0], rtol=1e-3)
        self.assertAllClose(scaled["out"], full["out"], rtol=1e-2)

    def test_a_factor_that_cannot_be(self):
        task = Regression(SGD())
        with self.assertRaisesRegex(ValueError, "factor=0"):
            task.scale_updates(task.trainable_variables, 0)


if __name__ == "__main__":
    tf.test.main()
