"""Placement of training steps on a GPU, without one: what TensorFlow would run on the host."""

from unittest import mock

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import detection
from pixpro_keras.detection import DetectorConfig, box_pipeline
from pixpro_keras.evaluation import LinearProbe
from pixpro_keras.methods import METHODS
from pixpro_keras.segmentation import FCN
from pixpro_keras.types import JIGSAW, batch_signature
from tests.helpers import gpu_placement, steps
from tests.helpers.tiny_networks import tiny_backbone, tiny_pyramid_backbone

BATCH = 16
# Numbers of images, sides and single indices may go to the host, nothing that grows with the pixels, the
# candidates or the anchors.
LEAST = 256


def kept_first(boxes, scores, max_output_size, **kwargs):
    """In place of TensorFlow's own non-maximum suppression, a loop that the host controls."""
    del kwargs
    shape = tf.shape(scores)
    return tf.zeros((shape[0], max_output_size), tf.int32), tf.ones(shape[0], tf.int32)


@pytest.mark.slow
class GpuPlacementTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        if not gpu_placement.has_gpu_kernels():
            self.skipTest("This TensorFlow was built without GPUs")
        keras.mixed_precision.set_global_policy("mixed_float16")
        self.addCleanup(keras.mixed_precision.set_global_policy, "float32")

    def check(self, function, *signature):
        graph = tf.function(function).get_concrete_function(*signature).graph
        self.assertEmpty(gpu_placement.without_kernel(graph))
        self.assertEmpty(gpu_placement.copies_to_host(graph, LEAST))

    def test_what_runs_on_the_host_is_found(self):
        def on_host(x):
            return tf.reduce_sum(tf.cast(x > 0, tf.int32))

        spec = tf.TensorSpec((8, 8))
        graph = tf.function(on_host).get_concrete_function(spec).graph
        self.assertLen(gpu_placement.copies_to_host(graph, 64), 1)
        self.assertEmpty(gpu_placement.copies_to_host(graph, 65))
        graph = tf.function(tf.strings.as_string).get_concrete_function(spec).graph
        self.assertLen(gpu_placement.without_kernel(graph), 1)

    @parameterized.parameters(
        *[(name, {}) for name in METHODS if name != "supervised"],
        (
            "supervised",
            {"num_classes": 50, "hidden_dim": None, "out_dim": None, "base_momentum": None},
        ),
        ("pixcontrast", {"negatives": "other_images", "instance_weight": 1.0}),
        ("pixcontrast", {"negatives": "queue", "queue_size": 64}),
    )
    def test_pre_training(self, method, arguments):
        task = steps.build(method, **arguments)
        entries = batch_signature(BATCH, 32) | {JIGSAW: ((BATCH, 9, 16, 16, 3), "float32")}
        signature = {
            name: tf.TensorSpec(shape, dtype)
            for name, (shape, dtype) in entries.items()
            if task.uses_coordinates or not name.startswith("coord")
        }
        self.check(task.train_step, signature)

    def test_segmentation(self):
        task = compiled(FCN(tiny_backbone(), 3))
        images = tf.TensorSpec((BATCH, 32, 32, 3))
        self.check(
            task.train_step, {"image": images, "mask": tf.TensorSpec((BATCH, 32, 32), tf.int32)}
        )
        self.check(lambda x: task.logits(x, (32, 32)), images)

    @parameterized.parameters("mask_rcnn_fpn", "faster_rcnn_c4")
    @mock.patch.object(tf.image, "non_max_suppression_padded", kept_first)
    def test_detection(self, name):
        with_masks = name.startswith("mask")
        task = compiled(
            detection.build(name, tiny_pyramid_backbone(), DetectorConfig(2, with_masks, 64, 100))
        )
        signature = {
            box_pipeline.IMAGE: tf.TensorSpec((2, 128, 192, 3)),
            box_pipeline.SIZE: tf.TensorSpec((2, 2)),
            box_pipeline.BOXES: tf.TensorSpec((2, 5, 4)),
            box_pipeline.CLASSES: tf.TensorSpec((2, 5), tf.int32),
            box_pipeline.SEED: tf.TensorSpec((2, 2), tf.int32),
            box_pipeline.MASKS: tf.TensorSpec((2, 5, 112, 112), tf.uint8),
        }
        self.check(task.train_step, signature)
        self.check(task.detect, signature[box_pipeline.IMAGE], signature[box_pipeline.SIZE])

    def test_linear_probe(self):
        task = compiled(LinearProbe(tiny_backbone(), 10, [1.0, 2.0]))
        labels = tf.TensorSpec((BATCH,), tf.int32)
        self.check(task.train_step, {"view1": tf.TensorSpec((BATCH, 32, 32, 3)), "label": labels})


def compiled(task):
    task.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    task.optimizer.build(task.trainable_variables)
    return task


if __name__ == "__main__":
    tf.test.main()
