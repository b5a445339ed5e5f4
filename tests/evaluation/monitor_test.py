import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras.evaluation.monitor import Monitor, dense_linear_miou, knn_accuracy
from pixpro_keras.methods import BYOL
from pixpro_keras.optimizers import SGD
from pixpro_keras.training.callbacks import RunLog
from pixpro_keras.training.loop import train
from tests.helpers.files import read_metrics
from tests.helpers.tiny_networks import random_batch, tiny_backbone


class MonitorTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        keras.utils.set_random_seed(0)
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, 12).astype("int32")
        # Bright and dark images: any features tell them apart.
        images = (labels[:, None, None, None] + 0.1 * rng.normal(size=(12, 16, 16, 3))).astype("f")
        masks = np.tile(labels[:, None, None], (1, 16, 16))
        data = tf.data.Dataset.from_tensor_slices
        self.labeled = data({"image": images, "label": labels}).batch(5)
        self.masks = data((images, masks)).batch(5)

    def run_training(self, measure=None):
        keras.utils.set_random_seed(0)
        method = BYOL(tiny_backbone(), total_steps=12, hidden_dim=8, out_dim=4)
        method.compile(optimizer=SGD(0.01, 0.9, l2_decay=0.0), jit_compile=False)
        method.optimizer.build(method.trainable_variables)
        workdir = pathlib.Path(self.create_tempdir().full_path)
        measurements = []
        if measure is not None:
            measurements.append(Monitor(lambda: measure(method.encoder.backbone), 6))
        train(
            method,
            tf.data.Dataset.from_tensors(random_batch()).repeat(),
            strategy=tf.distribute.get_strategy(),
            epochs=4,
            steps_per_epoch=3,
            batch_size=8,
            callbacks=[RunLog(workdir, 3, 1, method.loss_bounds, measurements)],
            log_every_steps=1,
        )
        return method, read_metrics(workdir)

    @pytest.mark.slow
    def test_is_in_the_log_of_every_second_epoch_and_changes_nothing(self):
        def measure(backbone):
            return {
                "knn_top1": knn_accuracy(backbone, self.labeled, self.labeled, 2),
                "cells_miou": dense_linear_miou(backbone, self.masks, self.masks, 2),
            }

        watched, lines = self.run_training(measure)
        for name in ("knn_top1", "cells_miou"):
            found = {line["step"]: line[name] for line in lines if name in line}
            self.assertEqual(found, {6: 1.0, 12: 1.0})
        alone, _ = self.run_training()
        for one, two in zip(watched.weights, alone.weights, strict=True):
            self.assertAllEqual(one, two)


if __name__ == "__main__":
    tf.test.main()
