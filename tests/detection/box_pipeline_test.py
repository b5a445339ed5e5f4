import collections
import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data.broken_images import WrongValueError
from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_pipeline import (
    BoxConfig,
    count_broken,
    make_box_batches,
    scaled_size,
)
from pixpro_keras.detection.box_source import COCO, BoxSource
from pixpro_keras.detection.objects import make_objects


def painted_source(sizes):
    """Images of one white rectangle on black, with its box and mask."""
    rng = np.random.default_rng(0)
    encoded, objects = [], []
    for height, width in sizes:
        x1, y1 = rng.integers(0, width // 2), rng.integers(0, height // 2)
        x2, y2 = x1 + rng.integers(width // 4, width // 2), y1 + height // 4
        image = np.zeros((height, width, 3), np.uint8)
        image[y1:y2, x1:x2] = 255
        encoded.append(tf.io.encode_png(image).numpy())
        mask = instance_masks.to_rle(image[..., 0] > 0)
        boxes = [[x1, y1, x2, y2]]
        objects.append(make_objects("i", (height, width), boxes, [0], [False], None, [mask]))
    return BoxSource(
        "painted",
        lambda index: tf.constant(encoded)[index],
        str,
        np.array(sizes, np.int32),
        objects,
        ("thing",),
        range(len(sizes)),
        [1],
        COCO,
    )


SIZES = [(40, 60), (48, 64)] * 4 + [(60, 40), (70, 44)] * 2
CONFIG = BoxConfig((32, 48), 80, max_boxes=3, with_masks=True, seed=5)


def batches(config=CONFIG, sizes=SIZES, start=0, replica=None, **kwargs):
    return make_box_batches(
        painted_source(sizes),
        config,
        global_batch_size=4,
        replica_batch_size=replica,
        preprocess=lambda image: image,
        start_step=start,
        **kwargs,
    )


class PipelineTest(tf.test.TestCase, parameterized.TestCase):
    def test_boxes_and_masks_are_where_the_paint_is(self):
        for batch in batches().take(6).as_numpy_iterator():
            shape = batch["image"].shape
            self.assertIn(shape, [(4, 64, 96, 3), (4, 96, 64, 3), (4, 32, 64, 3), (4, 64, 32, 3)])
            self.assertEqual(batch["boxes"].shape, (4, 3, 4))
            for image, size, found, labels, bitmaps in zip(
                *(batch[k] for k in ("image", "size", "boxes", "classes", "masks")), strict=True
            ):
                self.assertAllEqual(labels, [0, -1, -1])
                self.assertAllEqual(found[1:], np.zeros((2, 4)))
                self.assertAllEqual(bitmaps[1:], np.zeros((2, 112, 112)))
                self.assertAllEqual(bitmaps[0], np.ones((112, 112)))
                painted = image[..., 0] > 127
                rows, columns = np.flatnonzero(painted.any(1)), np.flatnonzero(painted.any(0))
                expected = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
                self.assertAllClose(found[0], expected, atol=1.01)
                self.assertIn(size.min(), (32, 48))
                self.assertAllEqual(image[int(size[0]) :], 0 * image[int(size[0]) :])

    def test_masks_are_mirrored_with_the_image(self):
        source = painted_source([(40, 60)] * 4)
        triangle = [[10, 10, 40, 10, 10, 30]]
        objects = make_objects("i", (40, 60), [[10, 10, 40, 30]], [0], [False], None, [triangle])
        source = BoxSource(**(vars(source) | {"objects": [objects] * 4}))
        config = BoxConfig((40,), 80, max_boxes=1, with_masks=True)
        data = make_box_batches(
            source,
            config,
            global_batch_size=4,
            replica_batch_size=4,
            preprocess=lambda image: image,
        )
        batch = next(data.as_numpy_iterator())
        mirrored = batch["boxes"][:, 0, 0] == 20
        self.assertBetween(mirrored.sum(), 1, 3)
        plain = instance_masks.crop(triangle, np.array([10, 10, 40, 30], "f"), 40, 60)
        for one, bitmap in zip(mirrored, batch["masks"][:, 0], strict=True):
            self.assertAllEqual(bitmap, plain[:, ::-1] if one else plain)

    def test_order_is_a_function_of_seed_and_step(self):
        whole = list(batches().take(7).as_numpy_iterator())
        rest = list(batches(start=4).take(3).as_numpy_iterator())
        for one, two in zip(whole[4:], rest, strict=True):
            self.assertEqual(sorted(one), sorted(two))
            for key in one:
                self.assertAllEqual(one[key], two[key])
        other = next(batches(BoxConfig((32, 48), 80, 3, True, seed=6)).as_numpy_iterator())
        self.assertFalse(np.array_equal(other["seed"], whole[0]["seed"]))

    def test_a_pass_takes_each_image_once(self):
        # 8 wide and 4 high images in batches of 4: three batches in a pass.
        seen = []
        source = painted_source(SIZES)
        by_box = {tuple(np.round(o.boxes[0], 1)): n for n, o in enumerate(source.objects)}
        self.assertLen(by_box, 12)
        config = BoxConfig((1000,), 10**6, max_boxes=1)
        for batch in batches(config).take(3).as_numpy_iterator():
            for size, box in zip(batch["size"], batch["boxes"][:, 0], strict=True):
                for number, objects in enumerate(source.objects):
                    scale = size / source.sizes[number]
                    expected = objects.boxes[0] * scale[[1, 0, 1, 0]]
                    mirrored = expected.copy()
                    mirrored[[0, 2]] = size[1] - expected[[2, 0]]
                    if min(np.abs(box - expected).max(), np.abs(box - mirrored).max()) < 0.01:
                        seen.append(number)
        self.assertEqual(sorted(seen), list(range(12)))

    def test_machines_share_the_batch(self):
        whole = next(batches().as_numpy_iterator())
        for machine in range(2):
            options = {"input_pipeline_id": machine, "num_input_pipelines": 2}
            part = next(batches(replica=2, **options).as_numpy_iterator())
            for key, value in part.items():
                self.assertAllEqual(value, whole[key][2 * machine : 2 * machine + 2])

    def test_one_canvas_has_static_shapes(self):
        config = dataclasses.replace(CONFIG, num_canvases=1)
        data = batches(config, [(40, 60)] * 6)
        self.assertEqual(data.element_spec["image"].shape, (4, 64, 96, 3))

    def test_every_image_has_every_scale(self):
        # Two canvases for three scales: of the larger one, each image draws its scale.
        config = BoxConfig((60, 40, 64), 200, num_canvases=2)
        counts = collections.Counter()
        together = set()
        for batch in batches(config, [(40, 60)] * 8).take(60).as_numpy_iterator():
            sides = batch["size"].min(axis=1)
            self.assertEqual(batch["image"].shape[1:3], (64, 64) if 40 in sides else (64, 96))
            counts.update(sides)
            together.add(tuple(sorted(set(sides))))
        self.assertEqual(together, {(40,), (60,), (64,), (60, 64)})
        for count in counts.values():
            self.assertBetween(count, 50, 110)  # of 240

    def test_the_long_side_wins(self):
        size, scales = scaled_size(tf.constant([100, 400]), tf.constant(80), 200)
        self.assertAllEqual(size, [50, 200])
        self.assertAllClose(scales, [0.5, 0.5])

    @parameterized.parameters(
        ({"short_sides": ()}, "short_sides"),
        ({"short_sides": (64,), "max_side": 32}, "max_side"),
        ({"max_boxes": 0}, "max_boxes"),
        ({"num_canvases": 0}, "num_canvases"),
    )
    def test_bad_config(self, arguments, name):
        with self.assertRaisesRegex(ValueError, name):
            BoxConfig(**arguments)

    def test_an_image_of_another_size_is_named(self):
        source = painted_source([(40, 60)] * 4)
        wrong = BoxSource(**(vars(source) | {"sizes": np.array([(41, 60)] * 4, np.int32)}))
        data = make_box_batches(
            wrong,
            CONFIG,
            global_batch_size=4,
            replica_batch_size=4,
            preprocess=lambda image: image,
        )
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, r"[0-3]: .* differ in size, .* 40 x 60 and 41 x 60"
        ):
            next(iter(data))
        broken = count_broken(wrong, 0.5)
        broken.report(2, is_last=False)
        with self.assertRaisesRegex(WrongValueError, "^2: .* differ in size"):
            broken.check()

    def test_others_take_the_place_of_broken_images(self):
        source = painted_source([(40, 60)] * 4)
        whole = source.read

        def read(index):
            return tf.where(index == 1, tf.constant(b""), whole(index))

        source = dataclasses.replace(source, read=read)
        broken = count_broken(source, 0.25)
        data = make_box_batches(
            source,
            CONFIG,
            global_batch_size=4,
            replica_batch_size=4,
            preprocess=lambda image: image,
            broken=broken,
        )
        for batch in data.take(2).as_numpy_iterator():
            self.assertEqual(batch["boxes"].shape, (4, 3, 4))
            self.assertAllEqual(batch["classes"][:, 0], [0] * 4)
        broken.check()
        self.assertEqual(broken.names, {1: "1"})


if __name__ == "__main__":
    tf.test.main()
