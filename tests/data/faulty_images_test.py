"""Faulty input: unusual formats, damaged files, unusual names, and a folder that changes during a run."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras.data import pipeline, sources
from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError, read_error
from pixpro_keras.data.decoding import decode
from tests.helpers.jobs import write_photos

RED, BLUE = (220, 30, 40), (30, 60, 200)


def picture():
    """Image whose upper half is red and lower half is blue."""
    from PIL import Image

    array = np.zeros((40, 60, 3), np.uint8)
    array[:20], array[20:] = RED, BLUE
    return Image.fromarray(array)


def turned(file):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    picture().transpose(Image.Transpose.ROTATE_90).save(file, "jpeg", exif=exif)


def transparent():
    """The picture, half transparent on its left."""
    from PIL import Image

    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:, :30] = 128
    image = picture()
    image.putalpha(Image.fromarray(alpha))
    return image


def of_16_bit(file):
    file.write_bytes(tf.io.encode_png(np.array(picture()).astype("uint16") * 257).numpy())


# Readable ones, and how they are written.
READABLE = {
    "alpha.png": lambda file: transparent().save(file),
    "alpha.webp": lambda file: transparent().save(file, lossless=True, exact=True),
    "lossy_alpha.webp": lambda file: transparent().save(file, quality=100, exact=True),
    "cmyk.jpg": lambda file: picture().convert("CMYK").save(file),
    "16_bit.png": of_16_bit,
    "turned.jpg": turned,
    "palette.png": lambda file: picture().quantize(4).save(file),
    "png_named.jpg": lambda file: picture().save(file, "png"),
    "jpeg_named.png": lambda file: picture().save(file, "jpeg"),
    "\u65e5\u672c \u0444\u0430\u0439\u043b \u00e9 \u0645\u0644\u0641.jpg": lambda file: (
        picture().save(file)
    ),
    b"no unicode \xff\xfe.jpg": lambda file: picture().save(file, "jpeg"),
    "new\nline\ttab.jpg": lambda file: picture().save(file),
}
BROKEN = {
    "zero_bytes.jpg": lambda file: file.write_bytes(b""),
    "text.jpg": lambda file: file.write_text("<svg/>"),
    "tiff_named.jpg": lambda file: picture().save(file, "tiff"),
    # TensorFlow overwrites memory when it decodes one without transparency.
    "animated.webp": lambda file: picture().save(
        file, save_all=True, append_images=[picture().rotate(180)]
    ),
    "dangling.jpg": lambda file: file.symlink_to("/nowhere/at/all.jpg"),
}


class KindsTest(tf.test.TestCase):
    def test_odd_images(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for name, write in (READABLE | BROKEN).items():
            write(folder / os.fsdecode(name))
        source = sources.open_source(f"folder:{folder}")
        self.assertEqual(source.num_examples, len(READABLE) + len(BROKEN))
        decoded = {}
        for index in range(source.num_examples):
            name = pathlib.Path(source.describe(index)).name
            try:
                decoded[name] = decode(source.read(tf.constant(index))["image"]).numpy()
            except tf.errors.OpError:
                self.assertIn(name, BROKEN)
        self.assertEqual(set(decoded), {os.fsdecode(name) for name in READABLE})
        for name, image in decoded.items():
            self.assertEqual(image.shape, (40, 60, 3), msg=name)
            self.assertAllClose(image[5, 5], RED, atol=3, msg=name)
            self.assertAllClose(image[35, 55], BLUE, atol=3, msg=name)

    def test_extreme_sides(self):
        config = pipeline.DataConfig(image_size=16, use_xla=False)
        for shape in ((1, 1, 3), (1, 20_000, 3), (20_000, 3, 3)):
            image = tf.fill(shape, tf.constant(77, tf.uint8))
            views = pipeline.make_views(image, tf.constant([1, 2]), config)
            for name in ("view1", "view2"):
                self.assertEqual(views[name].shape, (16, 16, 3))
            for name in ("coord1", "coord2"):
                self.assertAllInRange(views[name], 0, 1)


class ReasonsTest(tf.test.TestCase):
    def source(self, read, count=2):
        return sources.Source("some", count, read, str)

    def test_reasons_are_those_of_the_assertion_or_decoder_alone(self):
        def wrong(index):
            with tf.control_dependencies(
                [tf.debugging.Assert(index < 0, ["a.png has the value 9"])]
            ):
                return tf.identity(index)

        self.assertEqual(read_error(self.source(wrong), 0), "a.png has the value 9")
        whole = tf.function(wrong, input_signature=[tf.TensorSpec((), tf.int64)])
        self.assertEqual(read_error(self.source(whole), 0), "a.png has the value 9")
        file = pathlib.Path(self.create_tempdir().full_path, "animated.webp")
        BROKEN["animated.webp"](file)
        animated = self.source(lambda index: {"image": tf.constant(file.read_bytes())})
        self.assertIn("an animated WebP file", read_error(animated, 0))
        empty = read_error(self.source(lambda index: {"image": tf.constant(b"")}), 0)
        self.assertEqual(empty, "Input is empty.")

    def test_a_set_without_a_sound_image_is_refused(self):
        broken = BrokenImages(self.source(lambda index: {"image": tf.constant(b"")}, 1), 0.01)
        broken.report(0, is_last=False)
        with self.assertRaisesRegex(BrokenImagesError, "so that none is left: 0"):
            broken.check()

    def test_the_error_names_the_limit(self):
        broken = BrokenImages(self.source(lambda index: {"image": tf.constant(b"")}, 9), 0.01)
        for index in range(2):
            broken.check()
            broken.report(index, is_last=False)
        with self.assertRaisesRegex(
            BrokenImagesError, "more than max_broken_share=0.01 allows: 0, 1"
        ):
            broken.check()


class ChangingFolderTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_what_disappears_or_breaks_is_counted(self):
        folder = write_photos(self.create_tempdir().full_path, count=12)
        source = sources.open_source(f"folder:{folder}")
        config = pipeline.DataConfig(16, use_xla=False, num_parallel_calls=1)
        broken = BrokenImages(source, max_share=0.5)
        # Nothing is read ahead of what is asked for but what prefetching holds.
        iterator = iter(pipeline.make_dataset(source, config, global_batch_size=4, broken=broken))
        next(iterator)
        (folder / "3.jpg").unlink()
        half = (folder / "7.jpg").read_bytes()
        (folder / "7.jpg").write_bytes(half[: len(half) // 2])
        (folder / "9.jpg").unlink()
        (folder / "9.jpg").mkdir()
        for _ in range(30):
            self.assertEqual(next(iterator)["view1"].shape, (4, 16, 16, 3))
        names = {pathlib.Path(name).name for name in broken.names.values()}
        self.assertEqual(names, {"3.jpg", "7.jpg", "9.jpg"})
        broken.check()

    def test_records_that_are_cut_off_meanwhile(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        photos = write_photos(folder / "photos", count=8)
        file = folder / "a.tfrecord"
        with tf.io.TFRecordWriter(str(file)) as writer:
            for photo in sorted(photos.iterdir()):
                value = tf.train.BytesList(value=[photo.read_bytes()])
                features = {"image/encoded": tf.train.Feature(bytes_list=value)}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
        source = sources.open_source(f"tfrecord:{file}")
        config = pipeline.DataConfig(16, use_xla=False, num_parallel_calls=1)
        broken = BrokenImages(source, max_share=1.0)
        iterator = iter(pipeline.make_dataset(source, config, global_batch_size=2, broken=broken))
        next(iterator)
        with file.open("r+b") as stream:
            stream.truncate(file.stat().st_size * 6 // 8)
        for _ in range(30):
            next(iterator)
        self.assertIn("a.tfrecord record 7", "".join(broken.names.values()))


if __name__ == "__main__":
    tf.test.main()
