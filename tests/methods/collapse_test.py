"""Reports of the collapse monitor on methods that must collapse."""

from typing import ClassVar

import keras
import pytest
import tensorflow as tf
from absl import logging
from keras import ops

from pixpro_keras.layers.heads import PooledMLP
from pixpro_keras.methods import BYOL, PretrainMethod
from pixpro_keras.ops import feature_std, l2_normalize
from pixpro_keras.optimizers import SGD
from pixpro_keras.training.callbacks import CollapseWarning
from pixpro_keras.types import VIEW1, VIEW2
from tests.helpers.tiny_networks import random_batch, tiny_backbone


class Wrong(PretrainMethod):
    """Both views must agree, and nothing keeps all images from agreeing."""

    loss_bounds: ClassVar = {"instance": (-1.0, 1.0)}
    has_target = False

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, {"instance": PooledMLP(32, 8)}, **kwargs)

    def call(self, batch, training=False):
        z1, z2 = (
            self.encoder(batch[view], training=training)["instance"] for view in (VIEW1, VIEW2)
        )
        cosine = ops.mean(ops.sum(l2_normalize(z1) * l2_normalize(z2), axis=1))
        return {"instance": -cosine, "feature_std": feature_std(z1)}


def train(method, steps=200):
    """Logs of the last step, as the loop gives them to callbacks."""
    method.compile(optimizer=SGD(0.05, 0.9, l2_decay=0.0), jit_compile=False)
    method.optimizer.build(method.trainable_variables)
    step = tf.function(method.train_step)
    for number in range(steps):
        batch = random_batch(seed=number % 4)
        logs = step({key: tf.constant(value) for key, value in batch.items()})
    return {name: float(value) for name, value in logs.items()} | {"step": steps}


class CollapseTest(tf.test.TestCase):
    def warnings(self, logs):
        with self.assertLogs("absl", "INFO") as captured:
            logging.info("beginning")
            CollapseWarning().on_train_batch_end(0, logs)
        return [line for line in captured.output if "collapsed" in line]

    @pytest.mark.slow
    def test_without_predictor_and_stop_gradient(self):
        keras.utils.set_random_seed(0)
        logs = train(Wrong(tiny_backbone(), total_steps=200))
        self.assertLess(logs["instance"], -0.99)  # a perfect loss
        self.assertLess(logs["feature_std"], 0.02)
        self.assertLen(self.warnings(logs), 1)

    @pytest.mark.slow
    def test_a_right_method_stays_silent(self):
        keras.utils.set_random_seed(0)
        logs = train(BYOL(tiny_backbone(), total_steps=200, hidden_dim=32, out_dim=8))
        self.assertGreater(logs["feature_std"], 0.1)
        self.assertEmpty(self.warnings(logs))


if __name__ == "__main__":
    tf.test.main()
