"""Reads and writes small data sets for tests of several packages."""

import json

import numpy as np
import tensorflow as tf

_OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def read_example(source, index):
    """Reads an encoded image and its label from a source."""
    example = source.read(tf.constant(index, tf.int64))
    return example["image"].numpy(), int(example["label"])


def number_source(count, broken=lambda index: tf.constant(False)):
    """Source of gray images with their indices as labels; those for which `broken` is true are unreadable."""
    from pixpro_keras.data.sources import Source

    def read(index):
        image = tf.cond(
            broken(index),
            lambda: tf.constant(b"broken"),
            lambda: tf.io.encode_png(tf.fill((8, 8, 3), tf.cast(index, tf.uint8))),
        )
        return {"image": image, "label": tf.cast(index, tf.int32)}

    return Source("numbers", count, read, str)


def read_masks(source):
    """Reads all images and masks of a source."""
    data = tf.data.Dataset.range(source.num_examples).map(source.read)
    return [(image.numpy(), mask.numpy()) for image, mask in data]


def save_image(path, array, palette=False):
    """Writes an image, or a mask with an optional palette."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, "uint8"))
    if palette:
        image = image.convert("P")
        image.putdata(np.asarray(array).ravel().tolist())
        image.putpalette([255 - value for value in range(256) for _ in range(3)])
    image.save(path)


def write_image(path, height=40, width=60):
    """Writes a JPEG image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype("uint8")
    path.write_bytes(tf.io.encode_jpeg(image).numpy())


def write_voc(root, objects, year=2007, split="trainval", size=(40, 60)):
    """Writes a VOC data set. `objects`: for each image, tuples of name, difficult and corners."""
    folder = root / f"VOC{year}"
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    stems = [f"{year}_{number:06d}" for number in range(len(objects))]
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems))
    height, width = size
    for stem, found in zip(stems, objects, strict=True):
        write_image(folder / "JPEGImages" / f"{stem}.jpg", height, width)
        text = "".join(_OBJECT.format(*one) for one in found)
        text = f"<size><width>{width}</width><height>{height}</height></size>{text}"
        (folder / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{text}</annotation>")


def write_coco(root, annotations, categories=((3, "cat"), (1, "dog")), split="train2017"):
    """Writes a COCO data set of two images with ids 7 and 9."""
    write_image(root / split / "a.jpg")
    write_image(root / split / "b.jpg", 60, 40)
    images = [
        {"id": 7, "file_name": "a.jpg", "height": 40, "width": 60},
        {"id": 9, "file_name": "b.jpg", "height": 60, "width": 40},
    ]
    content = {
        "images": images,
        "annotations": [one | {"id": n} for n, one in enumerate(annotations)],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
