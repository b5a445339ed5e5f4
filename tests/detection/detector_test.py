from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.detection import fpn_detector, instance_masks, mask_head
from pixpro_keras.detection.box_pipeline import BoxConfig, make_box_batches
from pixpro_keras.detection.box_source import COCO, BoxSource
from pixpro_keras.detection.c4_detector import C4Detector
from pixpro_keras.detection.coco_ap import coco_scores
from pixpro_keras.detection.detector import DetectorConfig
from pixpro_keras.detection.fpn_detector import FPNDetector
from pixpro_keras.detection.inference import detect_in_source
from pixpro_keras.detection.objects import make_objects
from pixpro_keras.detection.serving import ServedDetector, save_detector
from pixpro_keras.evaluation.precise_bn import apply_precise_bn
from pixpro_keras.optimizers import SGD
from tests.helpers.replicas import per_replica, two_cpus
from tests.helpers.steps import scalars, traced_step
from tests.helpers.tiny_networks import tiny_pyramid_backbone

NAMES = ("box", "disc")


def narrow(test):
    """Heads of 64 channels in place of 256, where only their size would change."""
    for module in (fpn_detector, mask_head):
        test = mock.patch.object(module, "_CHANNELS", 64)(test)
    return test


def build(
    detector,
    with_masks=True,
    synchronized=False,
    backbone=tiny_pyramid_backbone,
    rate=0.02,
    num_rois=16,
):
    keras.utils.set_random_seed(0)
    config = DetectorConfig(2, with_masks, num_rois, 40)
    task = detector(backbone(synchronized), config)
    task.compile(optimizer=SGD(rate, 0.9, l2_decay=0.0), jit_compile=False)
    task.optimizer.build(task.trainable_variables)
    return task


def shapes_source(count=2, size=(96, 128)):
    """Images of a bright rectangle and a dark disc, with masks."""
    rng = np.random.default_rng(1)
    height, width = size
    y, x = np.mgrid[:height, :width]
    encoded, objects = [], []
    for _ in range(count):
        left, top = rng.integers(4, 24, 2)
        box = (x >= left) & (x < left + 36) & (y >= top) & (y < top + 48)
        center = rng.integers((84, 40), (100, 60))
        disc = (x - center[0]) ** 2 + (y - center[1]) ** 2 < 24**2
        image = np.full((height, width, 3), 110, np.uint8)
        image[box], image[disc] = (250, 210, 40), (20, 40, 160)
        image += rng.integers(0, 6, image.shape).astype("uint8")
        corners = []
        for mask in (box, disc):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            corners.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        forms = [instance_masks.to_rle(mask) for mask in (box, disc)]
        objects.append(make_objects("i", size, corners, [0, 1], [False] * 2, None, forms))
        encoded.append(tf.io.encode_png(image).numpy())
    sizes = np.array([size] * count, np.int32)
    numbers = range(count)
    return BoxSource(
        "s", lambda i: tf.constant(encoded)[i], str, sizes, objects, NAMES, numbers, [1, 2], COCO
    )


def preprocess(image):
    return tf.cast(image, tf.float32) / 127.5 - 1


def batches(source, batch_size, sides=(64,), seed=0):
    return make_box_batches(
        source,
        BoxConfig(sides, 128, max_boxes=3, with_masks=True, seed=seed),
        global_batch_size=batch_size,
        replica_batch_size=batch_size,
        preprocess=preprocess,
    )


class DetectorTest(tf.test.TestCase, parameterized.TestCase):
    def test_batches_that_lack_an_entry_are_refused(self):
        batch = {"image": np.zeros((1, 64, 64, 3)), "boxes": np.zeros((1, 2, 4))}
        with self.assertRaisesRegex(ValueError, "without size, classes, seed, masks"):
            build(C4Detector).train_step(batch)

    @parameterized.parameters((C4Detector, False), (C4Detector, True), (FPNDetector, True))
    @pytest.mark.slow
    @narrow
    def test_loss_terms_and_detections(self, detector, with_masks):
        task = build(detector, with_masks)
        batch = next(iter(batches(shapes_source(), 2)))
        # Traced: suppression loops, which is slow one operation at a time.
        terms = tf.function(task)(batch, training=True)
        self.assertEqual("mask" in terms, with_masks)
        self.assertLessEqual(set(task.loss_bounds), set(terms))
        self.assertAllClose(terms["rpn_objectness"], np.log(2), atol=0.05)
        self.assertAllClose(terms["box_class"], np.log(3), atol=0.3)
        if with_masks:
            self.assertAllClose(terms["mask"], np.log(2), atol=0.05)
        self.assertLen({id(w) for w in task.weights}, len(task.weights))
        found = tf.function(task.detect)(batch["image"], batch["size"])
        count = found["scores"].shape[1]
        self.assertLessEqual(count, 100)
        self.assertEqual(found["boxes"].shape, (2, count, 4))
        if with_masks:
            side = 28 if detector is FPNDetector else 14
            self.assertEqual(found["masks"].shape, (2, count, side, side))

    @pytest.mark.slow
    def test_two_replicas_equal_one_device(self):
        data = [
            {key: value.numpy() for key, value in batch.items()}
            for batch in batches(shapes_source(4), 4).take(2)
        ]
        single = build(C4Detector)
        step = traced_step(single)
        expected = [scalars(step({k: tf.constant(v) for k, v in b.items()})) for b in data]
        strategy = two_cpus()
        with strategy.scope():
            mirrored = build(C4Detector, synchronized=True)
        step = traced_step(mirrored, strategy)
        found = [scalars(step(per_replica(strategy, b)), strategy) for b in data]
        for one, two in zip(expected, found, strict=True):
            for name in one:
                self.assertAllClose(two[name], one[name], rtol=1e-3, atol=1e-4, msg=name)
        for one, two in zip(single.weights, mirrored.weights, strict=True):
            self.assertAllClose(two, one, rtol=1e-3, atol=1e-4, msg=one.path)
        # Batch norm is measured by one process, outside of the strategy.
        apply_precise_bn(mirrored, data)
        apply_precise_bn(single, data)
        for one, two in zip(single.weights, mirrored.weights, strict=True):
            self.assertAllClose(two, one, rtol=1e-2, atol=1e-3, msg=one.path)

    @pytest.mark.slow
    def test_xla_compiles_the_step(self):
        batch = next(iter(batches(shapes_source(), 2)))
        # All proposals are sampled, since rounding may change their order, and with it a sample.
        plain, compiled = (build(FPNDetector, num_rois=200) for _ in range(2))
        expected = scalars(traced_step(plain)(batch))
        found = scalars(tf.function(compiled.train_step, jit_compile=True)(batch))
        # Untrained, the classes are as good as equal: rounding decides which is the largest.
        for name in set(expected) - {"class_accuracy"}:
            self.assertAllClose(found[name], expected[name], rtol=3e-3, atol=1e-4, msg=name)

    @pytest.mark.slow
    @narrow
    def test_overfits_two_images(self):
        source = shapes_source()
        task = build(FPNDetector, backbone=lambda _: tiny_pyramid_backbone(channels=32))
        step = traced_step(task)
        # Both are found after 60 of them, whatever the order in which processors add.
        losses = [scalars(step(batch))["loss"] for batch in batches(source, 2, (96,)).take(120)]
        self.assertLess(np.mean(losses[-5:]), 0.4 * losses[0])
        apply_precise_bn(task, batches(source, 2, (96,)).take(8))
        found = [None, None]
        for index, image, one in detect_in_source(
            tf.function(task.detect), source, preprocess, 96, 128
        ):
            found[index] = one
            self.assertEqual(image.shape, (96, 128, 3))
        scores = coco_scores(found, source)
        self.assertGreater(scores["AP50"], 0.95, msg=str(scores))
        self.assertGreater(scores["mask AP50"], 0.95, msg=str(scores))

        folder = self.create_tempdir().full_path
        save_detector(ServedDetector(task, preprocess, NAMES, 96, 128), folder)
        served = tf.saved_model.load(folder)
        del task
        for index in range(2):
            image = tf.io.decode_png(source.read(tf.constant(index)))
            for transposed in (False, True):
                given = tf.transpose(image, (1, 0, 2)) if transposed else image
                outputs = served.signatures["serving_default"](image=given)
                self.assertEqual(outputs["masks"].shape[0], len(outputs["scores"]))
                if not transposed:
                    self.assertAllClose(outputs["boxes"], found[index].boxes, atol=0.1)
                    self.assertAllClose(outputs["scores"], found[index].scores, atol=1e-3)
                    self.assertEqual(set(outputs["names"].numpy()), {b"box", b"disc"})

    @pytest.mark.slow
    def test_head_parameters_are_the_protocols(self):
        def resnet(synchronized):
            return backbones.build("resnet50_v1_5")

        def count_trainable(task):
            return sum(int(np.prod(one.shape)) for one in task.trainable_variables)

        norms_of_resnet50 = 2 * 26_560
        config = DetectorConfig(80, with_masks=True)
        task = C4Detector(resnet(False), config)
        rpn = 9 * 1024**2 + 1024 + (1024 + 1) * 15 * 5
        predictor = (2048 + 1) * (81 + 320)
        mask = 2048 * 256 * 4 + 256 + 257 * 80
        extra = task.count_params() - task.backbone.count_params() - 1  # the step
        self.assertEqual(extra, rpn + predictor + mask + 4 * 2048)
        # detectron2's mask_rcnn_R_50_C4, whose batch norm is frozen and which has none after res5.
        self.assertEqual(count_trainable(task), 35_909_612 + norms_of_resnet50 + 2 * 2048)
        task = FPNDetector(resnet(False), config)
        norm = 4 * 256
        conv = 9 * 256**2
        fpn = (256 + 512 + 1024 + 2048) * 256 + 4 * conv + 8 * norm
        rpn = conv + 256 + 257 * 3 * 5
        box = 4 * (conv + norm) + (49 * 256 + 1) * 1024 + (1024 + 1) * (81 + 320)
        mask = 4 * (conv + norm) + 4 * 256**2 + 256 + 257 * 80
        extra = task.count_params() - task.backbone.count_params() - 1
        self.assertEqual(extra, fpn + rpn + box + mask)
        # detectron2's mask_rcnn_R_50_FPN (torchvision gives 44,401,393 for the same network with 90
        # classes, background among boxes and masks). The release's adds 4 convolutions to the box
        # head in place of a second dense layer, and batch norm in place of biases.
        second_dense = (1024 + 1) * 1024
        added = 4 * conv - second_dense + 16 * 2 * 256 - (8 + 4) * 256
        self.assertEqual(count_trainable(task), 44_343_216 + norms_of_resnet50 + added)
        self.assertTrue(all(layer.trainable for layer in task._flatten_layers()))

    @parameterized.parameters((C4Detector, False), (FPNDetector, True))
    @pytest.mark.slow
    @narrow
    def test_a_saved_detector_finds_the_same(self, detector, with_masks):
        task = build(detector, with_masks)
        path = f"{self.create_tempdir().full_path}/detector.keras"
        task.save(path)
        loaded = keras.saving.load_model(path)
        self.assertEqual(loaded.config, task.config)
        images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
        sizes = np.array([[64, 64]], "float32")
        expected, found = (x.detect(images, sizes) for x in (task, loaded))
        self.assertAllEqual(found["boxes"], expected["boxes"])

    def test_a_backbone_that_cannot_be_cut(self):
        inputs = keras.Input((None, None, 3))
        c2 = keras.layers.Conv2D(4, 3, strides=4, padding="same")(inputs)
        x = c2
        for _ in range(3):
            x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(x)
        x = keras.layers.Add()([x, keras.layers.AveragePooling2D(8)(c2)])
        with self.assertRaisesRegex(ValueError, "cut at C4"):
            C4Detector(keras.Model(inputs, x, name="crossed"), DetectorConfig(2))

    def test_c4_needs_no_finer_map(self):
        x = inputs = keras.Input((None, None, 3))
        for stride in (16, 2):
            x = keras.layers.Conv2D(4, stride, stride)(x)
        task = C4Detector(keras.Model(inputs, x), DetectorConfig(2))
        self.assertEqual(task.stem(np.zeros((1, 64, 64, 3))).shape, (1, 4, 4, 4))


if __name__ == "__main__":
    tf.test.main()
