r"""AP of KerasCV's YOLOv8 with a random and with a pre-trained backbone.

python benchmarks/yolo_v8.py --boxes=voc:PATH --images=folder:PATH/VOC2007/JPEGImages --workdir=runs/yolo

PixPro pre-trains `keras_cv:yolo_v8_xs_backbone` on unlabeled images. `keras_cv.models.YOLOV8Detector` is then
trained on the boxes from both backbones with the same settings, and evaluated by VOC's metric.
"""

import argparse
import itertools
import pathlib

import keras
import numpy as np
import tensorflow as tf

import pixpro_keras
from pixpro_keras.detection import Detections, voc_scores
from pixpro_keras.detection.box_source import BoxSource
from pixpro_keras.detection.datasets import open_boxes
from pixpro_keras.utils.markdown import markdown_table

BACKBONE = "keras_cv:yolo_v8_xs_backbone"


def main() -> None:
    """Pre-trains, fine-tunes from both backbones and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", required=True, help="boxes: voc:PATH")
    parser.add_argument("--images", required=True, help="unlabeled images: folder:PATH")
    parser.add_argument("--train_split", default="2007_train")
    parser.add_argument("--test_split", default="2007_val")
    parser.add_argument("--workdir", default="runs/yolo_v8")
    parser.add_argument("--pretrain_epochs", type=int, default=100)
    parser.add_argument("--view_size", type=int, default=160, help="side of the views in pixels")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of fine-tuning")
    parser.add_argument(
        "--size", type=int, default=256, help="side of the detector's images in pixels"
    )
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of fine-tuning")
    arguments = parser.parse_args()
    result = pixpro_keras.pretrain(
        arguments.images,
        pathlib.Path(arguments.workdir) / "pretrain",
        method="pixpro",
        backbone=BACKBONE,
        projector_hidden_dim=512,
        image_size=arguments.view_size,
        min_crop_area=0.2,
        batch_size=arguments.batch_size,
        epochs=arguments.pretrain_epochs,
        base_learning_rate=4.0,
        warmup_epochs=arguments.pretrain_epochs / 10,
        precision="auto",
    )
    train = read(open_boxes(arguments.boxes, arguments.train_split), arguments.size)
    test = read(open_boxes(arguments.boxes, arguments.test_split), arguments.size)
    rows = []
    for seed, name in itertools.product(arguments.seeds, ("scratch", "PixPro")):
        keras.utils.set_random_seed(seed)
        if name == "scratch":
            backbone = pixpro_keras.backbones.plain_network(BACKBONE)
        else:
            backbone = pixpro_keras.load_backbone(result.workdir)
        detector = fine_tune(backbone, train, arguments.epochs, arguments.batch_size)
        scores = evaluate(detector, test)
        rows.append([name, seed, f"{scores['AP']:.1%}", f"{scores['AP50']:.1%}"])
        print(markdown_table(["backbone", "seed", "AP", "AP50"], rows), flush=True)


def read(source: BoxSource, size: int) -> tuple[np.ndarray, list[float], BoxSource]:
    """Images padded to squares, `(N, size, size, 3)` float32 in 0..255; their scale factors; the source."""
    images = np.zeros((len(source.objects), size, size, 3), np.float32)
    scales = []
    for index, (height, width) in enumerate(source.sizes):
        scale = size / max(height, width)
        image = tf.io.decode_image(source.read(tf.constant(index, tf.int64)), 3)
        shape = (round(height * scale), round(width * scale))
        images[index, : shape[0], : shape[1]] = tf.image.resize(image, shape, antialias=True)
        scales.append(scale)
    return images, scales, source


def fine_tune(
    backbone: keras.Model,
    data: tuple[np.ndarray, list[float], BoxSource],
    epochs: int,
    batch_size: int,
) -> keras.Model:
    """Trains a detector, with random mirroring, and returns it."""
    import keras_cv

    images, scales, source = data
    most = max(len(one.boxes) for one in source.objects)
    boxes = np.full((len(images), most, 4), -1, np.float32)  # KerasCV pads with -1.
    classes = np.full((len(images), most), -1, np.float32)
    for index, (one, scale) in enumerate(zip(source.objects, scales, strict=True)):
        boxes[index, : len(one.boxes)] = one.boxes * scale
        classes[index, : len(one.boxes)] = one.classes
    detector = keras_cv.models.YOLOV8Detector(
        backbone=backbone,
        num_classes=len(source.class_names),
        bounding_box_format="xyxy",
        fpn_depth=1,
    )
    steps = epochs * -(-len(images) // batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=2e-3, warmup_steps=steps // 10
    )
    detector.compile(
        classification_loss="binary_crossentropy",
        box_loss="ciou",
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=5e-4, global_clipnorm=10.0),
        jit_compile=False,
    )
    width = images.shape[2]

    def mirror(image, boxes, classes):
        flipped = tf.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
        flipped = tf.where(classes[:, None] < 0, boxes, flipped)
        is_flipped = tf.random.uniform(()) < 0.5
        image = tf.cond(is_flipped, lambda: image[:, ::-1], lambda: image)
        boxes = tf.cond(is_flipped, lambda: flipped, lambda: boxes)
        return image, {"boxes": boxes, "classes": classes}

    batches = tf.data.Dataset.from_tensor_slices((images, boxes, classes)).shuffle(len(images))
    detector.fit(batches.map(mirror).batch(batch_size), epochs=epochs, verbose=2)
    return detector


def evaluate(
    detector: keras.Model, data: tuple[np.ndarray, list[float], BoxSource]
) -> dict[str, float]:
    """VOC `AP` and `AP50`, with boxes in pixels of the original images."""
    images, scales, source = data
    found = detector.predict(images, batch_size=16, verbose=0)
    detections = []
    for index, scale in enumerate(scales):
        is_there = found["classes"][index] >= 0
        detections.append(
            Detections(
                found["boxes"][index][is_there] / scale,
                found["confidence"][index][is_there],
                found["classes"][index][is_there].astype(np.int32),
            )
        )
    return voc_scores(detections, source.objects, source.class_names, use_07_metric=True)


if __name__ == "__main__":
    main()
