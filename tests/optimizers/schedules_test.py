import math

import keras
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.optimizers import WarmupCosine


def official_schedule(step, peak, total, warmup, fraction, end):
    """Gradual warm-up, then cosine annealing, in Python floats."""
    if warmup and step <= warmup:
        return peak * fraction * ((1 / fraction - 1) * step / warmup + 1)
    done = min(step - warmup, total - warmup) / (total - warmup)
    return end + (peak - end) * (1 + math.cos(math.pi * done)) / 2


class WarmupCosineTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((100, 5), (100, 0), (1, 0), (7, 6))
    def test_equals_the_official_code(self, total, warmup):
        schedule = WarmupCosine(4.0, total, warmup, 0.01, 1e-6)
        for step in range(total + 3):
            expected = official_schedule(step, 4.0, total, warmup, 0.01, 1e-6)
            self.assertAllClose(schedule(step), expected, rtol=1e-5, atol=1e-6, msg=str(step))

    def test_only_warmup_stays_at_its_end(self):
        self.assertAllClose(WarmupCosine(1.0, 4, 4)(3), 0.01 + 0.99 * 3 / 4)

    def test_serializes(self):
        schedule = WarmupCosine(2.0, 50, 5, 0.1, 0.0)
        copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
        self.assertEqual(copy.get_config(), schedule.get_config())
        self.assertAllEqual(copy(13), schedule(13))

    @parameterized.parameters(
        (0, 0, "total_steps"), (5, 6, "warmup_steps"), (5, -1, "warmup_steps")
    )
    def test_bad_arguments(self, total, warmup, name):
        with self.assertRaisesRegex(ValueError, name):
            WarmupCosine(1.0, total, warmup)


if __name__ == "__main__":
    tf.test.main()
