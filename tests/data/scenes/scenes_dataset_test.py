import os
import pathlib
import random
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from pixpro_keras.data.scenes import composition, drawing, scenes_dataset
from tests.helpers.scenes import digest, fingerprint

# Asked for before the first test runs: the set of the user's folder, which tests below and others read.
WAS_BUILT = scenes_dataset.Scenes().is_prepared()
REPO = pathlib.Path(__file__).resolve().parents[3]

# Any change of the drawing must bump `Scenes.VERSION` and this fingerprint.
FINGERPRINT = ("1.2.0", "eb548cd49d41cd72")

BUILD_TINY = """
import random, sys
from pixpro_keras.data.scenes import scenes_dataset
random.seed(7)  # TFDS names its temporary folder with these numbers.
scenes_dataset.SPLIT_SIZES = {"train": 60, "validation": 10}
built = scenes_dataset.builder(sys.argv[1])
print(sum(1 for _ in built.as_dataset("train")), built.info.splits["validation"].num_examples)
"""


def run_python(code, *args, hash_seed="0"):
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPO)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class DrawSceneTest(tf.test.TestCase, parameterized.TestCase):
    def test_same_scene_twice(self):
        self.assertEqual(digest("train", 5), digest("train", 5))

    def test_does_not_depend_on_global_seeds(self):
        before = digest("train", 5)
        np.random.seed(1)
        random.seed(1)
        self.assertEqual(digest("train", 5), before)

    def test_pinned(self):
        self.assertEqual((str(scenes_dataset.Scenes.VERSION), fingerprint()), FINGERPRINT)

    @parameterized.parameters("0", "4242")
    @pytest.mark.slow
    def test_same_in_another_process(self, hash_seed):
        code = "from tests.helpers.scenes import fingerprint; print(fingerprint())"
        output, error = run_python(code, hash_seed=hash_seed).communicate(timeout=120)
        self.assertEqual(output.strip(), fingerprint(), msg=error[-2000:])

    def test_scenes_differ_between_indices_and_splits(self):
        digests = {digest(split, i) for split in ("train", "validation") for i in range(30)}
        self.assertLen(digests, 60)

    def test_annotations_agree_with_the_masks(self):
        for index in range(40):
            example = composition.draw_scene("train", index)
            instances = example["instance_mask"][..., 0]
            semantic = example["segmentation_mask"][..., 0]
            height, width = instances.shape
            self.assertEqual(example["image"].shape, (height, width, 3))
            self.assertEqual(example["image"].dtype, np.uint8)
            found = {}  # Number in the mask: class values, rows and columns of its pixels.
            for row in range(height):
                for column in range(width):
                    number = int(instances[row, column])
                    entry = found.setdefault(number, (set(), [], []))
                    entry[0].add(int(semantic[row, column]))
                    entry[1].append(row)
                    entry[2].append(column)
            self.assertEqual(found.pop(0)[0], {0})
            self.assertEqual(sorted(found), list(range(1, len(example["objects"]) + 1)))
            for number, (classes, rows, columns) in found.items():
                item = example["objects"][number - 1]
                self.assertEqual(classes, {item["label"] + 1})
                self.assertEqual(item["area"], len(rows))
                self.assertGreaterEqual(len(rows), 48)
                self.assertFalse(item["is_crowd"])
                expected = (
                    min(rows) / height,
                    min(columns) / width,
                    (max(rows) + 1) / height,
                    (max(columns) + 1) / width,
                )
                box = item["bbox"]
                corners = [box[side] for side in ("ymin", "xmin", "ymax", "xmax")]
                self.assertAllClose(corners, expected, atol=1e-12)

    def test_label_is_the_class_of_the_largest_object(self):
        for index in range(40):
            example = composition.draw_scene("validation", index)
            areas = [item["area"] for item in example["objects"]]
            self.assertEqual(example["label"], example["objects"][int(np.argmax(areas))]["label"])

    def test_every_class_is_a_main_object_and_a_small_one(self):
        main, small = set(), set()
        for index in range(100):
            example = composition.draw_scene("train", index)
            areas = [item["area"] for item in example["objects"]]
            main.add(example["label"])
            small |= {
                item["label"]
                for k, item in enumerate(example["objects"])
                if k != int(np.argmax(areas))
            }
        self.assertEqual(main, set(range(10)))
        self.assertEqual(small, set(range(10)))

    def test_unknown_split(self):
        with self.assertRaisesRegex(ValueError, "`split` must be .*Received: split='test'"):
            composition.draw_scene("test", 0)


class DrawingTest(tf.test.TestCase):
    def test_turn_is_the_cosine_and_sine_of_a_multiple_of_the_angle(self):
        angle = np.linspace(-3, 3, 50)
        radius, c, s = drawing.turn(2 * np.cos(angle), 2 * np.sin(angle), 7)
        self.assertAllClose(radius, np.full(50, 2.0))
        self.assertAllClose(c, np.cos(7 * angle))
        self.assertAllClose(s, np.sin(7 * angle))

    def test_wave_is_nearly_a_sine(self):
        x = np.linspace(-2, 2, 101)
        self.assertAllClose(drawing.wave(x), np.sin(2 * np.pi * x), atol=0.06)

    def test_cells_measure_to_the_two_nearest_points(self):
        x, y = (n.ravel() for n in np.meshgrid(np.linspace(-3, 3, 9), np.linspace(0, 4, 7)))
        border, _ = drawing.cells(x, y, drawing.Dice(3))
        shift_y, shift_x, _ = drawing.Dice(3).array(3, 256)
        for k in range(len(x)):
            distances = sorted(
                np.hypot(
                    j + shift_x[16 * (i % 16) + j % 16] - x[k],
                    i + shift_y[16 * (i % 16) + j % 16] - y[k],
                )
                for i in range(int(np.floor(y[k])) - 1, int(np.floor(y[k])) + 2)
                for j in range(int(np.floor(x[k])) - 1, int(np.floor(x[k])) + 2)
            )
            self.assertAllClose(border[k], distances[1] - distances[0])


class BuilderTest(tf.test.TestCase):
    def test_tiny_build(self):
        folder = os.path.join(self.get_temp_dir(), "tiny")
        with mock.patch.object(scenes_dataset, "SPLIT_SIZES", {"train": 6, "validation": 3}):
            built = scenes_dataset.builder(folder)
        self.assertEqual(built.info.splits["train"].num_examples, 6)
        self.assertEqual(tuple(built.info.features["label"].names), scenes_dataset.CLASS_NAMES)
        self.assertEqual(built.info.features["label"].num_classes, 10)
        # `tfds.load` finds what the builder wrote, under the registered name.
        loaded = tfds.load("scenes", split="train", data_dir=folder, download=False)
        drawn = {
            composition.draw_scene("train", index)["instance_mask"].tobytes(): index
            for index in range(6)
        }
        seen = set()
        for example in loaded.as_numpy_iterator():
            index = drawn[example["instance_mask"].tobytes()]
            expected = composition.draw_scene("train", index)
            seen.add(index)
            self.assertAllEqual(example["segmentation_mask"], expected["segmentation_mask"])
            self.assertEqual(example["label"], expected["label"])
            self.assertAllEqual(
                example["objects"]["area"], [item["area"] for item in expected["objects"]]
            )
            # The picture has been through JPEG.
            self.assertAllClose(
                example["image"].astype("float32").mean(), expected["image"].mean(), atol=2.0
            )
        self.assertEqual(seen, set(range(6)))

    @pytest.mark.slow
    def test_two_processes_at_once(self):
        folder = os.path.join(self.get_temp_dir(), "two")
        processes = [run_python(BUILD_TINY, folder) for _ in range(2)]
        for process in processes:
            output, error = process.communicate(timeout=300)
            self.assertEqual(output.strip(), "60 10", msg=error[-2000:])
        left = [path.name for path in pathlib.Path(folder, "scenes").iterdir()]
        self.assertEqual(left, [str(scenes_dataset.Scenes.VERSION)])

    @pytest.mark.slow
    def test_full_build(self):
        start = time.monotonic()
        # Where it was not there before these tests, it is left for the others of them.
        folder = os.path.join(self.get_temp_dir(), "full") if WAS_BUILT else None
        built = scenes_dataset.builder(folder)
        print(f"built in {time.monotonic() - start:.0f} s")
        self.assertEqual(
            {name: split.num_examples for name, split in built.info.splits.items()},
            scenes_dataset.SPLIT_SIZES,
        )

    @pytest.mark.slow
    def test_color_does_not_tell_the_class(self):
        """20-NN accuracy on mean colors is near chance."""

        def colors(split, count):
            examples = [*tfds.as_numpy(built.as_dataset(split).take(count))]
            means = np.array([example["image"].mean((0, 1)) for example in examples])
            return means, np.array([example["label"] for example in examples])

        built = scenes_dataset.builder()  # drawing that many again takes long

        train, train_labels = colors("train", 1000)
        held_out, held_out_labels = colors("validation", 300)
        distance = np.linalg.norm(held_out[:, None] - train[None], axis=-1)
        nearest = train_labels[np.argsort(distance, axis=1)[:, :20]]
        guess = np.array([np.bincount(row, minlength=10).argmax() for row in nearest])
        accuracy = (guess == held_out_labels).mean()
        print(f"k-NN on mean color: {accuracy:.3f}")
        self.assertLess(accuracy, 0.2)  # Chance is 0.1.


if __name__ == "__main__":
    tf.test.main()
