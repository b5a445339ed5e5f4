import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.linear_probe import LinearProbeOptions, log_probabilities
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.evaluation.features import Features
from pixpro_keras.evaluation.knn import top_k_accuracy
from pixpro_keras.evaluation.linear_probe import LinearProbe


class LinearProbeScoresTest(tf.test.TestCase):
    def test_classes_of_probability_0_in_float32_rank_by_their_logits(self):
        maps = keras.Input((8, 8, 7))
        probe = LinearProbe(keras.Model(maps, maps), num_classes=7)
        probe.kernels.assign(np.eye(7)[None])
        logits = np.array([[-30, -20, 0, 90, 200, -10, 50]], "float32")
        labels = np.array([5])
        features = Features(logits, labels, cells=logits[:0], cell_labels=labels[:0])
        (scores,) = log_probabilities(probe, features)
        self.assertAllClose(scores, logits - 200)
        ranks = [
            [top_k_accuracy(scores, np.array([label]), k) for k in range(1, 8)].index(1)
            for label in range(7)
        ]
        self.assertEqual(ranks, [6, 5, 3, 1, 0, 4, 2])


class LinearProbeOptionsTest(parameterized.TestCase):
    @parameterized.parameters("a", "0,1", "-1", "inf", "")
    def test_factors_that_cannot_be_are_refused_at_once(self, factors):
        with self.assertRaisesRegex(FlagError, f"^--learning_rate_factors={factors}: must be posi"):
            LinearProbeOptions(learning_rate_factors=tuple(factors.split(",") if factors else ()))


if __name__ == "__main__":
    tf.test.main()
