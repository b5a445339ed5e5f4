"""Worker of `peer_ratios.py`: our side of a task."""

import argparse
import queue
import threading
from typing import Any

import pixpro_keras  # noqa: F401  # isort: skip
import keras
import numpy as np
import task_data as data
import tensorflow as tf
import worker
from detector_weights import torchvision_arrays

from pixpro_keras import backbones, detection
from pixpro_keras.detection import box_pipeline, instance_masks
from pixpro_keras.detection.datasets import open_boxes
from pixpro_keras.evaluation import LinearProbe, feature_batches, weighted_knn
from pixpro_keras.optimizers import SGD
from pixpro_keras.segmentation import FCN, mask_pipeline
from pixpro_keras.task import Task
from pixpro_keras.training import train
from pixpro_keras.types import Tensor


def knn(options: argparse.Namespace) -> data.Step:
    """Step that predicts the classes of all queries and returns their mean."""
    del options
    features, labels, queries = data.features()

    def step(number: int) -> float:
        del number
        scores = weighted_knn(
            features, labels, queries, num_classes=data.NUM_CLASSES, k=data.K, temperature=data.T
        )
        return float(scores.argmax(axis=1).mean())

    return step


def linear_probe(options: argparse.Namespace, heads: int) -> data.Step:
    """Step that trains the probe for an epoch and returns its mean loss per head."""
    del options
    features, labels, _ = data.features()
    inputs = keras.Input((1, 1, features.shape[1]))
    backbone = keras.Model(inputs, keras.layers.Identity()(inputs))
    probe = LinearProbe(backbone, data.NUM_CLASSES, [1.0] * heads)
    probe.compile(SGD(data.LEARNING_RATE, 0.9, l2_decay=0.0), jit_compile=False)
    probe.optimizer.build(probe.trainable_variables)
    turns: queue.Queue = queue.Queue()
    losses: queue.Queue = queue.Queue()

    def end_epoch(epoch: int, logs: dict) -> None:
        losses.put(logs["loss"] / heads)
        turns.get()

    def run() -> None:
        turns.get()
        train(
            probe,
            feature_batches(features, labels, data.PROBE_BATCH),
            strategy=tf.distribute.get_strategy(),
            epochs=10_000,
            steps_per_epoch=len(features) // data.PROBE_BATCH,
            batch_size=data.PROBE_BATCH,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=end_epoch)],
            steps_per_execution=10,
        )

    # A single training, so that it is traced once; it waits for a request before each epoch.
    threading.Thread(target=run, daemon=True).start()

    def step(number: int) -> float:
        del number
        turns.put(None)
        return losses.get()

    return step


def trained(task: Task, batch: dict[str, np.ndarray]) -> data.Step:
    """Step that trains a task once and returns its loss."""
    task.compile(SGD(data.LEARNING_RATE / 100, 0.9, l2_decay=0.0), jit_compile=False)
    task.optimizer.build(task.trainable_variables)
    tensors = {name: tf.constant(value) for name, value in batch.items()}
    train_step = tf.function(lambda: task.train_step(tensors))
    return lambda number: float(train_step()["loss"])


def fcn(options: argparse.Namespace, is_training: bool) -> data.Step:
    """Step that trains an FCN, or predicts the classes of all pixels."""
    task = FCN(backbones.build("resnet50_v1_5", output_stride=16), data.FCN_CLASSES)
    images, masks = data.segmentation(options)
    if is_training:
        return trained(task, {mask_pipeline.IMAGE: images, mask_pipeline.MASK: masks})
    size = images.shape[1:3]

    @tf.function
    def predict(images: Tensor) -> Tensor:
        return tf.argmax(task.logits(images, size), axis=-1, output_type=tf.int32)

    constant = tf.constant(images)
    return lambda number: float(predict(constant).numpy().shape[0])


def detector(options: argparse.Namespace, name: str, is_training: bool) -> data.Step:
    """Step that trains a detector, or predicts boxes and pastes their masks; then returns their number."""
    config = detection.DetectorConfig(data.DETECTION_CLASSES, with_masks=name.startswith("mask"))
    task = detection.build(name, backbones.build("resnet50_v1_5"), config)
    if options.weights:
        arrays: Any = torchvision_arrays(task)
        np.savez(options.weights, **arrays)
    images, boxes, classes = data.detection(options)
    size = np.array([images.shape[1:3]], "float32")
    if is_training:
        batch = {
            box_pipeline.IMAGE: images,
            box_pipeline.SIZE: size,
            box_pipeline.BOXES: boxes[None],
            box_pipeline.CLASSES: classes[None],
            box_pipeline.SEED: np.zeros((1, 2), "int32"),
        }
        if config.with_masks:
            shape = (1, len(boxes), instance_masks.CROP_SIZE, instance_masks.CROP_SIZE)
            batch[box_pipeline.MASKS] = np.ones(shape, "uint8")
        return trained(task, batch)
    detect = tf.function(task.detect)
    image, area = tf.constant(images), tf.constant(size)

    def step(number: int) -> float:
        del number
        found = {key: value.numpy()[0] for key, value in detect(image, area).items()}
        count = int((found["scores"] > 0).sum())
        if config.with_masks:
            for mask, box in zip(found["masks"][:count], found["boxes"][:count], strict=True):
                instance_masks.paste(mask, box, *images.shape[1:3])
        return float(count)

    return step


def paste(options: argparse.Namespace) -> data.Step:
    """Step that pastes masks into a Full HD image, encodes them as RLE and returns their mean area."""
    del options
    masks, boxes, (height, width) = data.predicted_masks()

    def step(number: int) -> float:
        del number
        areas = []
        for mask, box in zip(masks, boxes, strict=True):
            pasted = instance_masks.paste(mask, box, height, width)
            instance_masks.to_rle(pasted)
            areas.append(pasted.mean())
        return float(np.mean(areas))

    return step


def detection_input(options: argparse.Namespace, with_masks: bool) -> data.Step:
    """Step that makes one training image of a COCO set and returns its mean pixel."""
    source = open_boxes(f"coco:{options.coco}", options.coco_split)
    config = box_pipeline.BoxConfig(data.SHORT_SIDES, data.MAX_SIDE, with_masks=with_masks)
    batches = box_pipeline.make_box_batches(
        source,
        config,
        global_batch_size=1,
        replica_batch_size=1,
        preprocess=backbones.preprocess_input("resnet50_v1_5"),
    )
    iterator = iter(batches)

    def step(number: int) -> float:
        del number
        batch = next(iterator)
        height, width = batch[box_pipeline.SIZE][0].numpy().astype(int)
        return float(batch[box_pipeline.IMAGE][0, :height, :width].numpy().mean())

    return step


def main() -> None:
    """Serves the steps of a task to the coordinator."""
    options = data.parse()
    policy = "mixed_bfloat16" if options.precision == "bfloat16" else "float32"
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    functions = knn, linear_probe, fcn, detector, paste, detection_input
    worker.serve(data.make_step(options, *functions))


if __name__ == "__main__":
    main()
