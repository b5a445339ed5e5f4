import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.evaluation.monitor import KnnMonitor
from pixpro_keras.methods import BYOL
from pixpro_keras.optimizers import SGD
from pixpro_keras.training.callbacks import RunLog
from pixpro_keras.training.loop import train
from tests.methods.tiny import random_batch, tiny_backbone


class KnnMonitorTest(tf.test.TestCase):
    def test_is_in_the_log_of_every_second_epoch(self):
        keras.utils.set_random_seed(0)
        method = BYOL(tiny_backbone(), total_steps=12, hidden_dim=8, out_dim=4)
        method.compile(optimizer=SGD(0.01, 0.9, l2_decay=0.0), jit_compile=False)
        method.optimizer.build(method.trainable_variables)
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, 12).astype("int32")
        # Bright and dark images: any features tell them apart.
        images = (labels[:, None, None, None] + 0.1 * rng.normal(size=(12, 16, 16, 3))).astype("f")
        data = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels}).batch(5)
        workdir = pathlib.Path(self.create_tempdir().full_path)
        train(
            method,
            tf.data.Dataset.from_tensors(random_batch()).repeat(),
            strategy=tf.distribute.get_strategy(),
            epochs=4,
            steps_per_epoch=3,
            batch_size=8,
            callbacks=[
                KnnMonitor(method.encoder.backbone, data, data, 2, 2, 3),
                RunLog(workdir, 3, 1, method.loss_bounds),
            ],
            log_every_steps=1,
        )
        lines = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
        found = {line["step"]: line["knn_top1"] for line in lines if "knn_top1" in line}
        self.assertEqual(found, {6: 1.0, 12: 1.0})


if __name__ == "__main__":
    tf.test.main()
