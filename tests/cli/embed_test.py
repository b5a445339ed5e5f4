import contextlib
import io
import os
import pathlib
from unittest import mock

import numpy as np
import pyarrow.parquet
import tensorflow as tf

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.cli import embed
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.data.broken_images import BrokenImagesError
from pixpro_keras.data.sources import open_source
from pixpro_keras.training.workdir import open_workdir
from pixpro_keras.weights import export_backbone
from tests.helpers.jobs import write_photos
from tests.helpers.random_weights import randomize


class EmbedTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.photos = write_photos(self.folder / "photos")
        self.network = randomize(backbones.plain_network("resnet10_v1_5"))
        export_backbone(self.network, "resnet10_v1_5", self.folder / "run")

    def options(self, output, **options):
        return embed.EmbedOptions.make(
            weights=self.folder / "run",
            dataset=f"folder:{self.photos}",
            image_size=32,
            batch_size=3,
            output=self.folder / output,
            strategy="one_device",
            **({"part_size": 4} | options),
        )

    def run_job(self, output, **options):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            embed.run(self.options(output, **options))
        return printed.getvalue()

    def test_both_kinds_of_file_hold_the_same(self):
        expected = pixpro_keras.embed(self.photos, self.network, image_size=32)
        text = self.run_job("a.npz")
        self.assertIn("pooled features of 8 images, (512,) each", text)
        with np.load(self.folder / "a.npz") as found:
            self.assertAllClose(found["features"], expected.vectors, rtol=1e-4, atol=1e-4)
            self.assertEqual(found["names"].tolist(), expected.names)
            self.assertAllEqual(found["labels"], expected.labels)
        self.run_job("a.parquet")
        table = pyarrow.parquet.read_table(self.folder / "a.parquet")
        vectors = np.array(table["features"].to_pylist())
        self.assertAllClose(vectors, expected.vectors, rtol=1e-4, atol=1e-4)
        self.assertEqual(table["names"].to_pylist(), expected.names)
        self.assertFalse(list(self.folder.glob("*.parts")))

    def test_maps(self):
        self.run_job("maps.npz", features="map", level="c4")
        with np.load(self.folder / "maps.npz") as found:
            self.assertEqual(found["features"].shape, (8, 2, 2, 256))

    def test_goes_on_where_it_was_cut_off(self):
        write, before = embed._write_part, (self.photos / "0.jpg").read_bytes()
        with (
            mock.patch.object(
                embed, "_write_part", wraps=write, side_effect=[mock.DEFAULT, KeyboardInterrupt]
            ),
            self.assertRaises(KeyboardInterrupt),
        ):
            self.run_job("a.npz")
        self.assertLen(list((self.folder / "a.npz.parts").glob("*.npz")), 1)
        with self.assertRaisesRegex(FlagError, "holds parts with other image_size"):
            embed.run(self.options("a.npz").replace(image_size=64))
        (self.photos / "7.jpg").rename(self.photos / "8.jpg")
        with self.assertRaisesRegex(FlagError, "holds parts with other images"):
            self.run_job("a.npz")
        (self.photos / "8.jpg").rename(self.photos / "7.jpg")
        status = (self.photos / "0.jpg").stat()
        (self.photos / "0.jpg").write_bytes((self.photos / "1.jpg").read_bytes())
        with self.assertRaisesRegex(FlagError, "holds parts with other images"):
            self.run_job("a.npz")
        (self.photos / "0.jpg").write_bytes(before)
        os.utime(self.photos / "0.jpg", ns=(status.st_atime_ns, status.st_mtime_ns))
        with mock.patch.object(embed, "_write_part", wraps=write) as written:
            self.run_job("a.npz")
        self.assertEqual(written.call_count, 1)
        with np.load(self.folder / "a.npz") as found:
            self.assertLen(found["features"], 8)

    def test_records_that_are_packed_anew_are_other_images(self):
        def pack(*photos):
            with tf.io.TFRecordWriter(str(self.folder / "a.tfrecord")) as writer:
                for name in photos:
                    image = tf.train.BytesList(value=[(self.photos / name).read_bytes()])
                    feature = {"image/encoded": tf.train.Feature(bytes_list=image)}
                    features = tf.train.Features(feature=feature)
                    writer.write(tf.train.Example(features=features).SerializeToString())
            return embed._images_digest(
                open_source(f"tfrecord:{self.folder}/a.tfrecord"), is_text=False
            )

        self.assertEqual(pack("0.jpg", "1.jpg"), pack("0.jpg", "1.jpg"))
        self.assertNotEqual(pack("0.jpg", "1.jpg"), pack("1.jpg", "2.jpg"))

    def test_a_second_job_with_the_same_output_is_refused(self):
        with (
            open_workdir(self.folder / "a.npz.parts"),
            self.assertRaisesRegex(FlagError, "--output=.*a.npz: a run is going on there"),
        ):
            self.run_job("a.npz")
        self.run_job("a.npz")

    def test_features_that_are_not_finite_are_refused(self):
        weights = self.network.get_weights()
        self.network.set_weights([np.full_like(weights[0], np.nan), *weights[1:]])
        export_backbone(self.network, "resnet10_v1_5", self.folder / "nan")
        options = self.options("a.npz").replace(weights=str(self.folder / "nan"))
        with self.assertRaisesRegex(
            FlagError, "--weights=.*/nan: the features of 3 of 3 images of folder:"
        ):
            embed.run(options)
        self.assertFalse((self.folder / "a.npz").exists())

    def test_a_broken_image_is_left_out(self):
        (self.photos / "2.jpg").write_bytes((self.photos / "2.jpg").read_bytes()[:300])
        with self.assertLogs("absl", "WARNING") as logs:
            self.run_job("a.npz")
        self.assertIn("2.jpg", " ".join(logs.output))
        with np.load(self.folder / "a.npz") as found:
            names = [pathlib.Path(name).name for name in found["names"]]
        self.assertEqual(names, [f"{number}.jpg" for number in (0, 1, 3, 4, 5, 6, 7)])

    def test_broken_images_are_counted_over_all_parts(self):
        for number in (3, 6):
            (self.photos / f"{number}.jpg").write_bytes(b"no image")
        # One of each part, of four images.
        with self.assertRaisesRegex(BrokenImagesError, r"2 of the 8 images.*3\.jpg"):
            self.run_job("a.npz", max_broken_share=0.2)
        # The first part is finished, and its broken image counts.
        with self.assertRaisesRegex(BrokenImagesError, r"2 of the 8 images.*3\.jpg"):
            self.run_job("a.npz", max_broken_share=0.2)
        self.run_job("a.npz", max_broken_share=0.25)
        with np.load(self.folder / "a.npz") as found:
            self.assertLen(found["names"], 6)

    def test_a_last_part_of_one_broken_image(self):
        (self.photos / "7.jpg").write_bytes(b"no image")
        self.run_job("a.npz", part_size=7)
        with np.load(self.folder / "a.npz") as found:
            self.assertLen(found["names"], 7)

    def test_a_name_that_is_not_utf_8(self):
        (self.photos / "2.jpg").rename(self.photos / os.fsdecode(b"\xff.jpg"))
        with self.assertRaisesRegex(FlagError, r"--output=.*a.parquet: .*udcff.jpg' .*\.npz takes"):
            self.run_job("a.parquet")
        self.assertFalse(list(self.folder.glob("*.parts")))
        self.run_job("a.npz")
        with np.load(self.folder / "a.npz") as found:
            self.assertIn(b"\xff.jpg", [os.path.basename(os.fsencode(x)) for x in found["names"]])

    def test_a_level_is_of_maps(self):
        with self.assertRaisesRegex(FlagError, "--level=c4: pooled .* --features=map"):
            self.run_job("a.npz", level="c4")

    def test_flags_without_effect_are_refused(self):
        for name, value in (("bn_momentum", 0.5), ("label_fraction", 0.1), ("workdir", "x")):
            with self.assertRaisesRegex(FlagError, f"--{name}={value}: "):
                self.run_job("a.npz", **{name: value})

    def test_other_endings_are_refused(self):
        with self.assertRaisesRegex(FlagError, "--output=.*a.csv: must end in .npz or .parquet"):
            self.options("a.csv")


if __name__ == "__main__":
    tf.test.main()
