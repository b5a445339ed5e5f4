import keras
import numpy as np
import pytest
import tensorflow as tf

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


if __name__ == "__main__":
    tf.test.main()
