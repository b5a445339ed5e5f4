import pathlib

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from pixpro_keras.data.sources import open_source
from pixpro_keras.evaluation import features

with tfds.core.registered.skip_registration():  # Nobody shall find them by name.

    class Painted(tfds.core.GeneratorBasedBuilder):
        """Images whose left half is red and of class 1; the mask says so, and has an ignored row."""

        VERSION = tfds.core.Version("1.0.0")
        SIZES = ((40, 60), (80, 30), (64, 64))
        has_masks = True

        def _info(self):
            parts = {
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
            if self.has_masks:
                parts["segmentation_mask"] = tfds.features.Image(
                    shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
                )
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(parts))

        def _split_generators(self, dl_manager):
            return {"validation": self._generate_examples()}

        def _generate_examples(self):
            for index, (height, width) in enumerate(self.SIZES):
                image = np.zeros((height, width, 3), np.uint8)
                image[:, : width // 2, 0] = 200
                example = {"image": image, "label": index}
                if self.has_masks:
                    mask = np.full((height, width, 1), 2, np.uint8)
                    mask[:, : width // 2] = 1
                    mask[: height // 4] = 255
                    example["segmentation_mask"] = mask
                yield index, example

    class Unmasked(Painted):
        """The same without masks."""

        VERSION = tfds.core.Version("1.0.0")
        has_masks = False


def cell_labels_loop(masks, size):
    batch, height, width = masks.shape
    result = np.full((batch, *size), 255)
    for b in range(batch):
        for i in range(size[0]):
            for j in range(size[1]):
                seen = [
                    int(masks[b, y, x])
                    for y in range(height)
                    for x in range(width)
                    if i <= (y + 0.5) * size[0] / height < i + 1
                    and j <= (x + 0.5) * size[1] / width < j + 1
                    and masks[b, y, x] != 255
                ]
                if seen:
                    result[b, i, j] = max(sorted(set(seen)), key=seen.count)
    return result


def quadrant_means():
    """Backbone without weights: 2x2 means of three channels."""
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.layers.AveragePooling2D(2)(inputs))


def random_batches(sizes=(4, 3), side=8):
    rng = np.random.default_rng(0)
    count = sum(sizes)
    images = rng.normal(size=(count, side, side, 3)).astype("float32")
    masks = rng.integers(0, 3, (count, side, side))
    masks[:, :2] = 255
    labels = rng.integers(0, 9, count)
    cuts = np.cumsum(sizes)[:-1]
    parts = (np.split(array, cuts) for array in (images, labels, masks))
    return [
        {
            "image": tf.constant(i),
            "label": tf.constant(c, tf.int32),
            "mask": tf.constant(m, tf.int32),
        }
        for i, c, m in zip(*parts, strict=True)
    ]


class LabeledBatchesTest(tf.test.TestCase):
    def test_sizes_values_and_order(self):
        builder = Painted(data_dir=self.create_tempdir().full_path)
        builder.download_and_prepare()
        data = features.labeled_batches(builder, "validation", 16, lambda x: x / 100 - 1, 2)
        batches = list(data.as_numpy_iterator())
        self.assertEqual([len(one["image"]) for one in batches], [2, 1])
        self.assertEqual(data.element_spec["image"].shape.as_list(), [None, 16, 16, 3])
        image, mask = batches[0]["image"][0], batches[0]["mask"][0]
        self.assertEqual((image.dtype, mask.dtype), (np.float32, np.int32))
        self.assertAllClose(image[:, :7, 0], np.ones((16, 7)), atol=1e-5)  # 200 / 100 - 1
        self.assertAllClose(image[:, 9:], -np.ones((16, 7, 3)), atol=1e-5)
        self.assertAllEqual(mask[:4], np.full((4, 16), 255))
        self.assertAllEqual(mask[4:, :8], np.full((12, 8), 1))
        self.assertAllEqual(mask[4:, 8:], np.full((12, 8), 2))
        enlarged = features.labeled_batches(builder, "validation", 96, lambda x: x, 3)
        for one in enlarged.as_numpy_iterator():  # Never a class in between.
            self.assertAllInSet(one["mask"], [1, 2, 255])
        again = [one["label"] for one in data.as_numpy_iterator()]
        self.assertAllEqual(np.concatenate(again), np.concatenate([b["label"] for b in batches]))
        self.assertCountEqual(np.concatenate(again), [0, 1, 2])

    def test_without_masks(self):
        builder = Unmasked(data_dir=self.create_tempdir().full_path)
        builder.download_and_prepare()
        data = features.labeled_batches(builder, "validation", 8, lambda x: x, 3)
        self.assertCountEqual(data.element_spec, ["image", "label"])


class CellLabelsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ((8, 8), (2, 4)), ((7, 10), (3, 3)), ((5, 5), (5, 5)), ((3, 4), (2, 2))
    )
    def test_against_a_loop(self, shape, size):
        masks = np.random.default_rng(0).choice([0, 1, 2, 255], (3, *shape))
        masks[0, : shape[0] // 2] = 255
        self.assertAllEqual(features.cell_labels(masks, size), cell_labels_loop(masks, size))

    def test_nothing_labeled(self):
        masks = np.full((1, 4, 4), 255)
        self.assertAllEqual(features.cell_labels(masks, (2, 2)), np.full((1, 2, 2), 255))


class ExtractFeaturesTest(tf.test.TestCase, parameterized.TestCase):
    def test_values_and_order(self):
        batches = random_batches()
        found = features.extract_features(quadrant_means(), batches, cells_per_image=99)
        images = np.concatenate([one["image"] for one in batches])
        masks = np.concatenate([one["mask"] for one in batches])
        maps = images.reshape(7, 4, 2, 4, 2, 3).mean(axis=(2, 4))
        labels = cell_labels_loop(masks, (4, 4))
        self.assertAllClose(found.pooled, maps.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)
        self.assertAllEqual(found.labels, np.concatenate([one["label"] for one in batches]))
        # The first row of cells is ignored, the others are all there.
        self.assertAllClose(found.cells, maps[:, 1:].reshape(-1, 3), rtol=1e-4, atol=1e-6)
        self.assertAllEqual(found.cell_labels, labels[:, 1:].ravel())

    def test_drawn_cells_do_not_depend_on_the_batches(self):
        one = features.extract_features(quadrant_means(), random_batches(), cells_per_image=5)
        other = features.extract_features(
            quadrant_means(), random_batches((1, 6)), cells_per_image=5
        )
        self.assertLen(one.cells, 7 * 5)
        self.assertAllClose(one.cells, other.cells, rtol=1e-5)
        self.assertAllEqual(one.cell_labels, other.cell_labels)
        self.assertNotIn(255, one.cell_labels)

    def test_seed_draws_other_cells(self):
        found = [
            features.extract_features(quadrant_means(), random_batches(), cells_per_image=2, seed=s)
            for s in (0, 1)
        ]
        self.assertNotAllClose(found[0].cells, found[1].cells)

    def test_no_cells(self):
        found = features.extract_features(quadrant_means(), random_batches(), cells_per_image=0)
        self.assertEqual((found.cells.shape, found.cell_labels.shape), ((0, 3), (0,)))
        unmasked = [{k: v for k, v in one.items() if k != "mask"} for one in random_batches()]
        self.assertEqual(features.extract_features(quadrant_means(), unmasked).cells.shape, (0, 3))

    @parameterized.parameters("float32", "mixed_float16", "mixed_bfloat16")
    def test_dtype_policies_and_inference_mode(self, policy):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None, None, 3), dtype="float32")
        x = keras.layers.Conv2D(4, 2, strides=2, dtype=policy)(inputs)
        norm = keras.layers.BatchNormalization(dtype=policy)
        backbone = keras.Model(inputs, norm(x))
        found = features.extract_features(backbone, random_batches())
        self.assertEqual((found.pooled.dtype, found.cells.dtype), (np.float32, np.float32))
        self.assertAllEqual(norm.moving_mean, np.zeros(4))
        image = random_batches()[0]["image"]
        expected = keras.ops.cast(backbone(image, training=False), "float32").numpy()
        self.assertAllClose(found.pooled[:4], expected.mean(axis=(1, 2)), rtol=1e-2, atol=1e-2)

    def test_batches_that_are_no_dicts_or_lack_labels_are_refused(self):
        batch = random_batches()[0]
        pair = batch["image"], batch["label"]
        for wrong, found in ((pair, "a tuple"), ({"image": pair[0]}, "image")):
            with self.assertRaisesRegex(ValueError, rf"keys image and label. Received: {found}\."):
                features.extract_features(quadrant_means(), [wrong])

    def test_four_outputs_are_no_map(self):
        maps = ((None, 8, 8, 4), (None, 4, 4, 4), (None, 2, 2, 4), (None, 1, 1, 4))
        with self.assertRaisesRegex(ValueError, "must return a map"):
            features.require_map(maps)
        features.require_map(maps[0])

    def test_empty(self):
        with self.assertRaisesRegex(ValueError, "`batches`"):
            features.extract_features(quadrant_means(), [])


class ImageBatchesTest(tf.test.TestCase):
    def test_the_central_square_of_each_image_in_order(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for number, (height, width) in enumerate(((80, 160), (120, 64), (64, 64))):
            image = np.zeros((height, width, 3), np.uint8)
            side = min(height, width) * 7 // 8
            top, left = (height - side) // 2, (width - side) // 2
            image[top : top + side, left : left + side] = 50 * (number + 1)
            (folder / str(number)).mkdir()
            path = str(folder / str(number) / "image.png")
            tf.io.write_file(path, tf.io.encode_png(image))
        source = open_source(f"folder:{folder}")
        batches = list(features.image_batches(source, 24, lambda x: x / 2, 2))
        self.assertAllEqual(np.concatenate([b["label"] for b in batches]), [0, 1, 2])
        images = np.concatenate([b["image"] for b in batches])
        self.assertEqual(images.shape, (3, 24, 24, 3))
        for number, image in enumerate(images):
            self.assertAllClose(image, np.full((24, 24, 3), 25 * (number + 1)), atol=0.01)


if __name__ == "__main__":
    tf.test.main()
