import types

import numpy as np
import tensorflow as tf

from pixpro_keras.ops import effective_rank
from pixpro_keras.training.callbacks import FeatureRank


def callback(images, every_steps=4):
    """The callback, of a method whose backbone passes images through."""
    rank = FeatureRank(lambda: tf.constant(images, tf.float32), every_steps)
    backbone = lambda x, training: x  # noqa: E731
    rank.set_model(types.SimpleNamespace(encoder=types.SimpleNamespace(backbone=backbone)))
    return rank


class FeatureRankTest(tf.test.TestCase):
    def test_is_in_the_logs_of_its_steps_and_of_the_epoch(self):
        images = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
        rank, logs = callback(images), [{"step": step} for step in range(1, 5)]
        for one in logs:
            rank.on_train_batch_end(one["step"] - 1, one)
        rank.on_epoch_end(0, epoch := {})
        self.assertEqual([sorted(one) for one in logs[:3]], [["step"]] * 3)
        self.assertAllClose(logs[3]["feature_rank"], effective_rank(images), rtol=1e-5)
        self.assertEqual(epoch["feature_rank"], logs[3]["feature_rank"])

    def test_many_cells_are_sampled(self):
        images = np.zeros((80, 8, 8, 3))
        images[:, 1::2, 1::2] = np.random.default_rng(0).normal(size=(80, 4, 4, 3))
        rank, logs = callback(images), {"step": 4}
        rank.on_train_batch_end(3, logs)
        # Of 64 images every fourth cell, which are those of the columns 0 and 4.
        self.assertAllClose(logs["feature_rank"], 1.0, atol=1e-3)

    def test_features_that_are_not_finite_have_none(self):
        rank, logs = callback(np.full((2, 4, 4, 3), np.nan)), {"step": 4}
        rank.on_train_batch_end(3, logs)
        self.assertTrue(np.isnan(logs["feature_rank"]))


if __name__ == "__main__":
    tf.test.main()
