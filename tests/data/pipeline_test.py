import dataclasses
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data import pipeline, sources
from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError
from pixpro_keras.data.decoding import decode
from pixpro_keras.types import batch_signature
from tests.helpers.examples import number_source
from tests.helpers.jobs import write_photos
from tests.helpers.shared_data import shared_path

CONFIG = pipeline.DataConfig(image_size=16, seed=3, max_broken_share=0.5)


def take(data, count):
    return [{key: value.numpy() for key, value in batch.items()} for batch in data.take(count)]


class MakeDatasetTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(self.folder / "photos", count=10)
        self.source = sources.open_source(f"folder:{self.folder / 'photos'}")

    def assert_same(self, one, two):
        self.assertLen(one, len(two))
        for a, b in zip(one, two, strict=True):
            self.assertEqual(set(a), set(b))
            for key in a:
                self.assertAllEqual(a[key], b[key], msg=key)

    def data(self, batch_size=4, config=CONFIG, **kwargs):
        return pipeline.make_dataset(self.source, config, global_batch_size=batch_size, **kwargs)

    def test_keeps_the_contract(self):
        signature = batch_signature(4, 16)
        spec = self.data().element_spec
        self.assertEqual({k: (tuple(v.shape), v.dtype.name) for k, v in spec.items()}, signature)
        (batch,) = take(self.data(), 1)
        for view in ("view1", "view2"):
            self.assertAllInRange(batch[view], 0, 255)
            self.assertGreater(batch[view].std(), 5)
        self.assertAllInRange(batch["coord1"], 0, 1)

    @pytest.mark.slow
    def test_same_pixels_with_any_number_of_threads(self):
        one = pipeline.DataConfig(image_size=16, seed=3, num_parallel_calls=1)
        eight = pipeline.DataConfig(image_size=16, seed=3, num_parallel_calls=8)
        self.assert_same(take(self.data(config=one), 5), take(self.data(config=eight), 5))

    def test_another_seed_gives_other_views(self):
        other = pipeline.DataConfig(image_size=16, seed=4)
        first, second = take(self.data(), 1)[0], take(self.data(config=other), 1)[0]
        self.assertNotAllClose(first["coord1"], second["coord1"])

    @pytest.mark.slow
    def test_what_is_left_to_the_device(self):
        def preprocess(views):
            return views / 127.5 - 1

        config = dataclasses.replace(CONFIG, colors_on_device=True)
        left = take(self.data(config=config), 3)
        device_transform = tf.function(pipeline.make_device_transform(config, preprocess))
        finished = [{k: v.numpy() for k, v in device_transform(batch).items()} for batch in left]
        for one, two in zip(finished, take(self.data(preprocess=preprocess), 3), strict=True):
            self.assertEqual(set(one), set(two))
            for key in one:
                self.assertAllClose(one[key], two[key], atol=1e-4, msg=key)
        with self.assertRaisesRegex(ValueError, "colors_on_device.*infomin"):
            dataclasses.replace(config, recipe="infomin")

    @parameterized.parameters(1, 2, 5)
    @pytest.mark.slow
    def test_a_later_start_skips_batches(self, step):
        self.assert_same(take(self.data(), step + 2)[step:], take(self.data(start_step=step), 2))

    @parameterized.parameters((2, 1), (1, 4), (2, 2))
    @pytest.mark.slow
    def test_machines_and_replicas_share_the_global_batch(self, machines, replicas):
        whole = take(self.data(batch_size=8), 2)
        share = 8 // machines // replicas
        pieces = [
            take(
                self.data(
                    batch_size=8,
                    replica_batch_size=share,
                    input_pipeline_id=machine,
                    num_input_pipelines=machines,
                ),
                2 * replicas,
            )
            for machine in range(machines)
        ]
        rebuilt = [
            {
                key: np.concatenate(
                    [
                        pieces[machine][step * replicas + replica][key]
                        for machine in range(machines)
                        for replica in range(replicas)
                    ]
                )
                for key in whole[0]
            }
            for step in range(2)
        ]
        self.assert_same(whole, rebuilt)

    def test_a_pass_visits_images_once_in_a_new_order(self):
        source = number_source(10)
        data = pipeline.make_dataset(source, CONFIG, global_batch_size=5)
        seen = np.reshape([batch["label"] for batch in take(data, 6)], (3, 10))
        for order in seen:
            self.assertAllEqual(np.sort(order), np.arange(10))
        self.assertNotAllEqual(seen[0], seen[1])

    def test_preprocess_sees_views_only(self):
        plain = take(self.data(), 1)[0]
        changed = take(self.data(preprocess=lambda x: x / 255 - 1), 1)[0]
        self.assertAllClose(changed["view1"], plain["view1"] / 255 - 1)
        self.assertAllEqual(changed["coord2"], plain["coord2"])

    def test_every_image_is_read_once(self):
        reads = []

        def read(index):
            def note(number):
                reads.append(int(number))
                return np.int64(number)

            index = tf.ensure_shape(tf.numpy_function(note, [index], tf.int64), ())
            return self.source.read(index)

        source = sources.Source("noted", 10, read, str)
        # One thread: more would begin with the next batch before this one is done.
        config = pipeline.DataConfig(image_size=16, num_parallel_calls=1)
        take(pipeline.make_dataset(source, config, global_batch_size=10), 1)
        self.assertEqual(sorted(reads[:10]), list(range(10)))

    def test_replicas_must_divide(self):
        with self.assertRaisesRegex(ValueError, "`replica_batch_size` must divide.*4.*3"):
            self.data(replica_batch_size=3)

    def test_too_few_images(self):
        with self.assertRaisesRegex(ValueError, "batch of 11 needs more than 10"):
            self.data(batch_size=11)


class BrokenImagesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(self.folder, count=10)
        (self.folder / "2.jpg").write_bytes(b"not an image")
        (self.folder / "5.jpg").write_bytes(b"")
        whole = (self.folder / "7.jpg").read_bytes()
        (self.folder / "7.jpg").write_bytes(whole[:20])
        self.source = sources.open_source(f"folder:{self.folder}")

    def batches(self, max_share, count=6):
        config = pipeline.DataConfig(16, max_broken_share=max_share)
        broken = BrokenImages(self.source, max_share)
        data = pipeline.make_dataset(self.source, config, global_batch_size=5, broken=broken)
        return take(data, count), broken

    def test_are_replaced_counted_and_named_once(self):
        with self.assertLogs("absl", "WARNING") as logs:
            batches, broken = self.batches(0.5)
        self.assertLen(batches, 6)
        names = {pathlib.Path(name).name for name in broken.names.values()}
        self.assertEqual(names, {"2.jpg", "5.jpg", "7.jpg"})
        self.assertLen(logs.output, 3)
        broken.check()
        again, _ = self.batches(0.5)
        for one, two in zip(batches, again, strict=True):
            self.assertAllEqual(one["view1"], two["view1"])

    @pytest.mark.slow
    def test_are_replaced_alike_on_any_number_of_machines(self):
        config = pipeline.DataConfig(16, max_broken_share=1.0)
        whole = take(pipeline.make_dataset(self.source, config, global_batch_size=10), 2)
        halves = [
            take(
                pipeline.make_dataset(
                    self.source,
                    config,
                    global_batch_size=10,
                    input_pipeline_id=machine,
                    num_input_pipelines=2,
                ),
                2,
            )
            for machine in range(2)
        ]
        for step in range(2):
            both = np.concatenate([half[step]["view2"] for half in halves])
            self.assertAllEqual(whole[step]["view2"], both)

    def test_too_many_end_the_run(self):
        _, broken = self.batches(0.2)
        with self.assertRaisesRegex(BrokenImagesError, r"3 of the 10 images.*\.jpg"):
            broken.check()

    def test_nothing_readable_at_all(self):
        for file in self.folder.iterdir():
            file.write_bytes(b"no")
        with self.assertRaisesRegex(ValueError, "none of 10 files.*is an image"):
            pipeline.check_decodable(self.source)
        broken = BrokenImages(self.source, 1.0)
        data = pipeline.make_dataset(
            self.source, pipeline.DataConfig(16), global_batch_size=2, broken=broken
        )
        with self.assertRaises(tf.errors.OpError):
            take(data, 1)
        with self.assertRaises(BrokenImagesError):
            broken.check()


class ViewsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        coarse = np.random.default_rng(0).integers(0, 255, size=(6, 8, 3)).astype("float32")
        self.image = tf.cast(tf.image.resize(coarse, (60, 80)), "uint8")

    def views(self, number, **kwargs):
        config = pipeline.DataConfig(**({"image_size": 16, "use_xla": False} | kwargs))
        return pipeline.make_views(self.image, tf.stack([number, 7]), config)

    def test_one_view(self):
        one, two = self.views(0, num_views=1), self.views(0)
        self.assertEqual(set(one), {"view1", "coord1"})
        self.assertAllEqual(one["view1"], two["view1"])

    def test_local_views_are_small_crops_of_a_small_size(self):
        views = self.views(0, num_local_views=3, local_image_size=8, local_crop_area=(0.04, 0.05))
        self.assertEqual(views["local_views"].shape, (3, 8, 8, 3))
        corners = np.reshape(views["local_coords"], (3, 2, 2))
        areas = np.prod(np.abs(corners[:, 1] - corners[:, 0]), axis=1)
        self.assertAllClose(areas, [0.045] * 3, atol=0.015)

    def test_local_views_leave_the_others_as_they_are(self):
        self.assertAllEqual(self.views(0, num_local_views=2)["view2"], self.views(0)["view2"])

    def test_colors_of_local_views_on_the_device_are_the_same(self):
        options = {"num_local_views": 2, "local_image_size": 8}
        late = {k: v[None] for k, v in self.views(3, colors_on_device=True, **options).items()}
        config = pipeline.DataConfig(16, colors_on_device=True, **options)
        found = pipeline.make_device_transform(config)(late)
        expected = self.views(3, **options)["local_views"]
        self.assertAllClose(found["local_views"][0], expected, atol=0.01)

    def test_jigsaw(self):
        views = self.views(0, image_size=112, with_jigsaw=True)
        self.assertEqual(views["jigsaw"].shape, (9, 32, 32, 3))

    @pytest.mark.slow
    def test_slotcons_second_crop_overlaps_the_first(self):
        shares = {"slotcon": [], "byol": []}
        for recipe, found in shares.items():
            # 60 samples are drawn faster in a graph.
            draw = tf.function(lambda number, name=recipe: self.views(number, recipe=name))
            for number in tf.range(60):
                views = draw(number)
                sides = [
                    np.sort(np.reshape(views[c], (2, 2)), axis=0) for c in ("coord1", "coord2")
                ]
                low, high = (
                    np.maximum(sides[0][0], sides[1][0]),
                    np.minimum(sides[0][1], sides[1][1]),
                )
                found.append(np.prod(np.maximum(high - low, 0)) > 0)
        self.assertAllEqual(shares["slotcon"], [True] * 60)
        self.assertIn(False, shares["byol"])

    def test_bicubic_equals_pil(self):
        from PIL import Image

        from pixpro_keras.data.transforms import crops

        ours, _ = crops.crop_and_resize(self.image, (7, 9, 40, 50), 24, "bicubic")
        crop = Image.fromarray(self.image.numpy()[7:47, 9:59])
        theirs = np.asarray(crop.resize((24, 24), Image.Resampling.BICUBIC), "float32")
        self.assertAllClose(ours, theirs, atol=1.0)


class DecodeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("jpeg", "png", "bmp", "webp", "gray", "alpha")
    def test_gives_rgb(self, kind):
        from PIL import Image

        array = np.zeros((6, 9, 3), np.uint8)
        array[:, :4] = (200, 30, 60)
        file = pathlib.Path(self.create_tempdir().full_path) / "image"
        image = Image.fromarray(array)
        if kind == "gray":
            image.convert("L").save(file, "png")
        elif kind == "alpha":
            image.convert("RGBA").save(file, "png")
        else:
            options = {"lossless": True} if kind == "webp" else {}
            image.save(file, kind, **options)
        decoded = decode(tf.io.read_file(str(file)))
        self.assertEqual(decoded.shape, array.shape)
        if kind in ("png", "bmp", "webp", "alpha"):
            self.assertAllEqual(decoded, array)

    def test_photographs(self):
        files = sorted(shared_path("data", "imagenet_sample").iterdir())[:20]
        for file in files:
            image = decode(tf.io.read_file(str(file)))
            self.assertGreater(min(image.shape[:2]), 100)


class DataConfigTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        {"image_size": 0},
        {"recipe": "none"},
        {"crop_area": (0.0, 1.0)},
        {"image_size": (64, 96)},
        {"image_size": 64.0},
        {"local_image_size": 0},
        {"crop_area": (0.5, 2.0)},
        {"crop_area": (0.5, 0.2)},
        {"color_strength": -0.1},
        {"blur_strength": -0.1},
        {"num_views": 3},
        {"seed": -1},
        {"max_broken_share": 1.5},
        {"num_parallel_calls": 0},
    )
    def test_bad_arguments(self, **kwargs):
        ((name, value),) = kwargs.items()
        with self.assertRaisesRegex(ValueError, f"{name}='?{re.escape(str(value))}"):
            pipeline.DataConfig(**({"image_size": 8} | kwargs))

    def test_the_area_of_local_crops_counts_only_if_there_are_some(self):
        areas = {"crop_area": (0.04, 1.0), "local_crop_area": (0.05, 0.04)}
        pipeline.DataConfig(image_size=8, **areas)
        with self.assertRaisesRegex(ValueError, "local_crop_area"):
            pipeline.DataConfig(image_size=8, num_local_views=1, **areas)


if __name__ == "__main__":
    tf.test.main()
