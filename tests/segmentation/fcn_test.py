import keras
import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras.optimizers import SGD
from pixpro_keras.segmentation.fcn import FCN
from tests.helpers.replicas import per_replica, two_cpus
from tests.helpers.steps import scalars, traced_step
from tests.helpers.tiny_networks import tiny_backbone, tiny_pyramid_backbone


def random_crops(seed=0, batch=4, size=16):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 3, size=(batch, size, size)).astype("int32")
    mask[rng.random(mask.shape) < 0.3] = 255
    mask[0] = 255
    images = rng.normal(size=(batch, size, size, 3)).astype("float32")
    return {"image": images, "mask": mask}


def build(synchronized=False, backbone=tiny_backbone, **kwargs):
    keras.utils.set_random_seed(0)
    task = FCN(backbone(synchronized), 3, **kwargs)
    task.compile(optimizer=SGD(0.1, 0.9, l2_decay=0.0), jit_compile=False)
    task.optimizer.build(task.trainable_variables)
    return task


def bilinear(cells, rows, columns):
    """Values of `(h, w)` cells at fractional rows and columns."""
    along = np.array([np.interp(columns, np.arange(cells.shape[1]), row) for row in cells])
    return np.array([np.interp(rows, np.arange(cells.shape[0]), one) for one in along.T]).T


class FcnTest(tf.test.TestCase):
    def test_no_class(self):
        with self.assertRaisesRegex(ValueError, "num_classes=0"):
            FCN(tiny_backbone(), 0)

    def test_batches_without_masks_are_refused(self):
        images = random_crops()["image"]
        with self.assertRaisesRegex(
            ValueError, "FCN must have the keys image, mask. .*labels, without mask"
        ):
            build().train_step({"image": images, "labels": images})

    def test_loss_equals_a_loop(self):
        task, batch = build(), random_crops()
        logits = task.logits(batch["image"], (16, 16)).numpy()
        losses, hits = [], []
        for b, y, x in np.argwhere(batch["mask"] != 255):
            one, label = logits[b, y, x], batch["mask"][b, y, x]
            losses.append(np.log(np.exp(one).sum()) - one[label])
            hits.append(one.argmax() == label)
        found = task(batch)
        self.assertAllClose(found["segmentation"], np.mean(losses), rtol=1e-5)
        self.assertAllClose(found["pixel_accuracy"], np.mean(hits), rtol=1e-5)

    def test_a_saved_task_gives_the_same(self):
        batch = random_crops()
        path = f"{self.create_tempdir().full_path}/fcn.keras"
        for kwargs in ({}, {"is_frozen": True, "level": "c4", "align_corners": True}):
            task = build(backbone=tiny_pyramid_backbone, **kwargs)
            task.save(path)
            loaded = keras.saving.load_model(path)
            self.assertLen(loaded.trainable_variables, len(task.trainable_variables))
            self.assertAllEqual(loaded(batch)["segmentation"], task(batch)["segmentation"])

    def test_cells_are_at_every_fourth_pixel_where_corners_are_aligned(self):
        task = build(is_frozen=True, align_corners=True)
        task.head = []
        for size in ((13, 17), (16, 24)):  # 13 = 3 * 4 + 1
            images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
            cells = task.network(images).numpy()
            rows, columns = (np.minimum(np.arange(n) / 4, (n - 1) // 4) for n in size)
            expected = np.array(
                [
                    [bilinear(cells[b, ..., c], rows, columns) for c in range(cells.shape[-1])]
                    for b in range(2)
                ]
            )
            found = task.logits(tf.constant(images), size)
            self.assertAllClose(found, expected.transpose(0, 2, 3, 1), atol=1e-5)
            if size[0] == 13:
                resized = tf.compat.v1.image.resize_bilinear(cells, size, align_corners=True)
                self.assertAllClose(found, resized, atol=1e-5)

    def test_aligned_corners_need_a_stride(self):
        inputs = keras.Input((None, None, 3))
        outputs = keras.layers.Conv2D(4, 5, strides=3)(inputs)
        with self.assertRaisesRegex(ValueError, "odd have no stride, which `align_corners` needs"):
            FCN(keras.Model(inputs, outputs, name="odd"), 3, align_corners=True)

    def test_head_is_the_protocols(self):
        head = {layer.name: layer for layer in build().head}
        self.assertEqual(
            list(head), ["conv1", "bn1", "relu1", "conv2", "bn2", "relu2", "classifier"]
        )
        for name in ("conv1", "conv2"):
            self.assertEqual(head[name].dilation_rate, (6, 6))
            self.assertEqual(head[name].filters, 256)

    def test_frozen_trains_the_classifier_alone(self):
        task = build(is_frozen=True)
        before = [w.numpy() for w in task.backbone.weights]
        step = traced_step(task)
        batch = {key: tf.constant(value) for key, value in random_crops().items()}
        first = scalars(step(batch))
        for _ in range(20):
            last = scalars(step(batch))
        self.assertLess(last["segmentation"], first["segmentation"])
        self.assertLen(task.trainable_variables, 2)
        for old, weight in zip(before, task.backbone.weights, strict=True):
            self.assertAllEqual(old, weight)

    def test_another_level(self):
        task = build(backbone=tiny_pyramid_backbone, is_frozen=True, level="c3")
        images = np.zeros((1, 64, 64, 3), "float32")
        self.assertEqual(task.network(images).shape, (1, 8, 8, 8))
        self.assertEqual(task.logits(images, (64, 64)).shape, (1, 64, 64, 3))

    def test_what_follows_the_level_is_not_trained(self):
        task = build(backbone=tiny_pyramid_backbone, level="c4")
        unused = [weight for weight in task.backbone.weights if "4/" in weight.path]
        before = [weight.numpy() for weight in unused]
        batch = {key: tf.constant(value) for key, value in random_crops(size=32).items()}
        first = task.backbone.trainable_variables[0].numpy()
        scalars(traced_step(task)(batch))
        self.assertNotAllEqual(task.backbone.trainable_variables[0], first)
        for old, weight in zip(before, unused, strict=True):
            self.assertAllEqual(old, weight)

    @pytest.mark.slow
    def test_two_replicas_equal_one_device(self):
        batches = [random_crops(seed) for seed in range(3)]
        single = build()
        step = traced_step(single)
        expected = [scalars(step({k: tf.constant(v) for k, v in b.items()})) for b in batches]
        strategy = two_cpus()
        with strategy.scope():
            mirrored = build(synchronized=True)
        step = traced_step(mirrored, strategy)
        found = [scalars(step(per_replica(strategy, b)), strategy) for b in batches]
        for one, two in zip(expected, found, strict=True):
            self.assertAllClose(two["loss"], one["loss"], rtol=1e-4)
        for one, two in zip(single.weights, mirrored.weights, strict=True):
            self.assertAllClose(two, one, rtol=1e-4, atol=2e-5, msg=one.path)


if __name__ == "__main__":
    tf.test.main()
