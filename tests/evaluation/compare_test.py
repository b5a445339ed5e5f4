import json
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.data.scenes import scenes_dataset
from pixpro_keras.evaluation import scenes_probe
from pixpro_keras.evaluation.compare import (
    compare_backbones,
    comparison_table,
    feature_accuracies,
)
from pixpro_keras.evaluation.features import Features
from tests.helpers.tables import unpadded


def colored_batches(count, seed):
    """Noisy images whose right half has the color of its class, 1 to 3. The left half is of class 0."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.normal(0, 0.3, (count, 8, 8, 3))
    images[np.arange(count), :, 4:, labels] += 5
    masks = np.zeros((count, 8, 8), "int32")
    masks[:, :, 4:] = labels[:, None, None] + 1
    data = {"image": images.astype("float32"), "label": labels.astype("int32"), "mask": masks}
    return tf.data.Dataset.from_tensor_slices(data).batch(12)


def pooled(blind):
    """Backbone of normalized 2x2 means; a blind one sums over the channels and ignores color."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.AveragePooling2D(2)(inputs)
    if blind:
        x = keras.layers.Conv2D(3, 1, kernel_initializer="ones")(x)
    return keras.Model(inputs, keras.layers.BatchNormalization()(x))


class CompareTest(tf.test.TestCase):
    def test_tells_a_seeing_backbone_from_a_blind_one(self):
        rows = compare_backbones(
            {"blind": pooled(True), "seeing": pooled(False)},
            colored_batches(60, 0),
            colored_batches(31, 1),
            k=5,
        )
        self.assertEqual(list(rows), ["blind", "seeing", "chance"])
        everything = {"image_knn": 1.0, "image_linear": 1.0, "cell_linear": 1.0}
        self.assertEqual(rows["seeing"], everything)
        # It tells objects from background, one class of four, but not one object from another.
        self.assertBetween(rows["blind"]["image_knn"], 0.1, 0.6)
        self.assertBetween(rows["blind"]["image_linear"], 0.1, 0.6)
        self.assertBetween(rows["blind"]["cell_linear"], 0.4, 0.65)
        self.assertAllClose(rows["chance"]["image_knn"], 11 / 31)
        self.assertAllClose(rows["chance"]["image_linear"], 11 / 31)
        self.assertAllClose(rows["chance"]["cell_linear"], 1 / 4)
        json.dumps(rows)

    def test_statistics_are_of_the_training_images_and_then_its_own_again(self):
        backbone = pooled(False)
        # With its own statistics nothing passes the ReLU.
        blocked = keras.Model(backbone.inputs, keras.layers.ReLU()(backbone.output))
        backbone.layers[-1].moving_mean.assign([100.0] * 3)
        rows = compare_backbones({"one": blocked}, colored_batches(60, 0), colored_batches(31, 1))
        self.assertGreater(rows["one"]["cell_linear"], 0.9)
        self.assertAllEqual(backbone.layers[-1].moving_mean, [100.0] * 3)

    def test_background_does_not_outweigh_the_objects(self):
        cells = np.repeat(np.eye(2, dtype="float32"), (90, 10), axis=0)
        labels = np.repeat([0, 1], (90, 10)).astype("int32")
        train = Features(cells, labels, cells, labels)
        test_cells = np.repeat(np.eye(2, dtype="float32")[:1], 100, axis=0)
        test = Features(test_cells, labels, test_cells, labels)  # All look like background.
        found = feature_accuracies(train, test, k=5)
        self.assertEqual(found, {"image_knn": 0.9, "image_linear": 0.9, "cell_linear": 0.5})

    def test_rare_classes_are_not_outvoted(self):
        rng = np.random.default_rng(0)
        labels = np.tile([0] * 9 + [1], 100).astype("int32")

        def cells():
            # The classes overlap: among an object's neighbors, most are background.
            return rng.normal(labels[:, None] * [1.0, 0.0, 0.0], 0.7, (1000, 3))

        first, second = (Features(x, labels, x, labels) for x in (cells(), cells()))
        found = feature_accuracies(first, second, k=20)
        self.assertGreater(found["cell_linear"], 0.65)

    def test_channel_that_is_constant_among_the_neighbors(self):
        rng = np.random.default_rng(0)
        labels = (np.arange(40) % 2).astype("int32")
        seen = np.stack([2.0 * labels - 1 + rng.normal(0, 0.1, 40), np.zeros(40)], 1)
        unseen = seen.copy()
        unseen[:, 1] = rng.normal(0, 1e-2, 40)
        train = Features(seen, labels, seen, labels)
        found = feature_accuracies(train, Features(unseen, labels, unseen, labels), k=5)
        self.assertEqual(set(found.values()), {1.0})

    def test_a_class_that_only_the_test_has_is_missed(self):
        vectors, labels = np.eye(3, dtype="float32"), np.arange(3, dtype="int32")
        seen = Features(vectors[:2], labels[:2], vectors[:2], labels[:2])
        found = feature_accuracies(seen, Features(vectors, labels, vectors, labels), k=1)
        self.assertAllClose(found["image_knn"], 2 / 3)
        self.assertAllClose(found["image_linear"], 2 / 3)

    def test_bad_input(self):
        data = colored_batches(12, 0)
        with self.assertRaisesRegex(ValueError, "`backbones`"):
            compare_backbones({}, data, data)
        unmasked = data.map(lambda one: {k: one[k] for k in ("image", "label")})
        with self.assertRaisesRegex(ValueError, "masks"):
            compare_backbones({"one": pooled(False)}, unmasked, unmasked, k=3)

    def test_markdown(self):
        table = comparison_table(
            {"random": {"image_knn": 0.125, "image_linear": 0.25, "cell_linear": 0.5}}
        ).splitlines()
        self.assertLen(table, 3)
        self.assertEqual(unpadded(table[2]), "| random | 12.5% | 25.0% | 50.0% |")
        self.assertEqual({line.count("|") for line in table}, {5})


class ProbeOnScenesTest(tf.test.TestCase):
    def test_reads_both_splits_of_the_scenes(self):
        splits = []

        def read(builder, split, image_size, preprocess, batch_size):
            splits.append(split)
            self.assertEqual((builder, image_size), ("builder of /data", 128))
            return colored_batches(30, len(splits)).map(
                lambda one: one | {"image": preprocess(one["image"])}
            )

        with (
            mock.patch.object(scenes_dataset, "builder", lambda data_dir: f"builder of {data_dir}"),
            mock.patch.object(scenes_probe, "labeled_batches", read),
        ):
            rows = scenes_probe.probe_on_scenes(
                {"one": pooled(False)}, lambda images: 2 * images, "/data"
            )
        self.assertLen(splits, 2)
        self.assertStartsWith(splits[0], "train")
        self.assertStartsWith(splits[1], "validation")
        self.assertEqual(rows["one"]["image_linear"], 1.0)


if __name__ == "__main__":
    tf.test.main()
