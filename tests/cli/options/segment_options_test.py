import pathlib

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.options.segment_options import (
    SegmentOptions,
    check_sizes,
    check_training,
    draw_labeled,
    label_values,
    open_parts,
    resolve_test_split,
)
from pixpro_keras.data.broken_images import BrokenImagesError
from tests.helpers.examples import save_image


class LabelValuesTest(parameterized.TestCase):
    @parameterized.parameters(
        ({}, (255, None)),
        ({"ignore_value": 0}, (0, None)),
        ({"ignore_value": -1}, (None, None)),
        ({"label_map": ("0:0", "255:1")}, (None, {0: 0, 255: 1})),
        ({"label_map": ("0:1", "7:0")}, (255, {0: 1, 7: 0})),
        ({"label_map": ("1:0", "2:1"), "ignore_value": 0}, (0, {1: 0, 2: 1})),
    )
    def test_options_of_values(self, options, expected):
        values = label_values(SegmentOptions.make(dataset="folder:x", **options))
        self.assertEqual((values.ignored, values.classes), expected)

    @parameterized.parameters(
        {"label_map": ("0",)},
        {"label_map": ("0:a",)},
        {"label_map": ("0:0", "0:1")},
        {"label_map": ("256:0",)},
        {"label_map": ("0:255",)},
        {"label_map": ("0:0", "255:1"), "ignore_value": 255},
    )
    def test_wrong_options_are_named(self, **options):
        with self.assertRaisesRegex(FlagError, "--label_map="):
            label_values(SegmentOptions.make(dataset="folder:x", **options))


class CheckTrainingTest(parameterized.TestCase):
    flags = ("--dataset=folder:x", "--frozen", "--solver=lbfgs")

    @parameterized.parameters(
        "--iterations=5",
        "--nocolor_jitter",
        "--color_jitter",
        "--base_learning_rate=0.1",
        "--batch_size=16",
        "--tracker=mlflow",
        "--crop_size=64",
        "--window_stride=64",
    )
    def test_options_of_sgd_are_refused(self, flag):
        options, _ = parsing.parse(SegmentOptions, [*self.flags, flag])
        with self.assertRaisesRegex(FlagError, f"^{flag}: --solver=lbfgs does not use it"):
            check_training(options)
        check_training(options.replace(solver="sgd"))

    def test_others_are_not(self):
        flags = (
            "--resize=8,8",
            "--level=c4",
            "--label_fraction=0.5",
            "--dry_run",
        )
        flags += ("--deterministic", "--precision=auto", "--seed=1", "--compare=random,imagenet")
        flags += ("--max_broken_share=0", "--output_stride=16")
        with self.assertNoLogs("absl", "WARNING"):
            check_training(parsing.parse(SegmentOptions, [*self.flags, *flags])[0])
            whole = (*self.flags, "--whole_images")
            check_training(parsing.parse(SegmentOptions, whole)[0])
            preset = "--flagfile=camvid_cells.cfg"
            check_training(parsing.parse(SegmentOptions, [self.flags[0], preset])[0])

    @parameterized.parameters(
        ("--window_stride=64", "--whole_images", "--whole_images has no windows"),
        ("--nowhole_images", "--solver=lbfgs", "--solver=lbfgs is fitted to whole images and"),
    )
    def test_whole_images_have_no_windows(self, flag, other, reason):
        options, _ = parsing.parse(SegmentOptions, ["--dataset=x", "--frozen", other, flag])
        with self.assertRaisesRegex(FlagError, f"^{flag}: {reason}"):
            check_training(options)

    def test_those_of_a_flag_file_are_told(self):
        file = self.create_tempfile("flags.cfg", "--iterations=5\n--batch_size=16\n").full_path
        options, _ = parsing.parse(SegmentOptions, [f"--flagfile={file}", *self.flags])
        with self.assertLogs("absl", "WARNING") as logs:
            check_training(options)
        (line,) = logs.output
        self.assertIn("--iterations=5: --solver=lbfgs does not use it. The flag file's", line)

    def test_flags_of_a_run_repeat_it(self):
        for solver in ("sgd", "lbfgs"):
            options, _ = parsing.parse(SegmentOptions, [*self.flags, f"--solver={solver}"])
            folder = pathlib.Path(self.create_tempdir().full_path)
            parsing.write_flags(options, folder)
            options, _ = parsing.parse(SegmentOptions, [f"--flagfile={folder / 'flags.cfg'}"])
            with self.assertNoLogs("absl", "WARNING"):
                check_training(options)
        options = options.replace(
            given=frozenset({"backbone_learning_rate_factor"}), from_files=frozenset()
        )
        with self.assertRaisesRegex(FlagError, "--frozen does not train the backbone"):
            check_training(options)
        options = options.replace(given=frozenset({"bn_momentum"}), solver="sgd")
        with self.assertRaisesRegex(FlagError, "--frozen changes no statistics"):
            check_training(options)


class CheckSizesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ({"crop_size": 64}, ""),
        ({}, "--crop_size=64$"),
        ({"crop_size": 64, "whole_images": True}, "--crop_size=64 and --resize=64,64$"),
        ({"crop_size": 64, "whole_images": True, "resize": ("64", "64")}, ""),
        ({"solver": "lbfgs", "whole_images": True}, "needs --resize=64,64$"),
    )
    def test_networks_of_one_size(self, sizes, needed):
        inputs = keras.Input((64, 64, 3))
        outputs = keras.layers.Conv2D(4, 3, strides=32, padding="same")(inputs)
        file = f"{self.create_tempdir().full_path}/network.keras"
        keras.Model(inputs, outputs).save(file)
        options = SegmentOptions.make(dataset="folder:x", backbone=file, image_size=64, **sizes)
        if not needed:
            check_sizes(options)
            return
        with self.assertRaisesRegex(
            FlagError, f"^--backbone=.*: takes images of 64 px only.*{needed}"
        ):
            check_sizes(options)

    def test_others_take_any_size(self):
        check_sizes(SegmentOptions.make(dataset="folder:x", whole_images=True))


class FlatFolderTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        for number in range(10):
            image = np.full((8, 8, 3), number, np.uint8)
            save_image(self.folder / "images" / f"{number}.png", image)
            save_image(self.folder / "masks" / f"{number}.png", image[..., 0] % 2)

    def parts(self, **options):
        options = SegmentOptions.make(dataset=f"folder:{self.folder}", **options)
        parts = open_parts(resolve_test_split(options))
        return [[one.describe(index) for index in range(one.num_examples)] for one in parts]

    def test_is_split_by_the_seed(self):
        with self.assertLogs("absl", "INFO") as logs:
            train, test = self.parts(val_fraction=0.3)
        self.assertIn("has no splits: 3 of its 10 images are the test", logs.output[-1])
        self.assertEqual((len(train), len(test), len({*train, *test})), (7, 3, 10))
        self.assertEqual(self.parts(val_fraction=0.3), [train, test])
        self.assertNotEqual(self.parts(val_fraction=0.3, seed=1)[1], test)

    def test_a_split_that_is_named_must_be_there(self):
        for part in ("images", "masks"):
            save_image(self.folder / "val" / part / "other.png", np.eye(8, dtype=np.uint8))
        missing = rf"=other: \S+ has no such split, there is no {self.folder}/other/images$"
        for name in ("train_split", "test_split"):
            with self.assertRaisesRegex(FlagError, f"^--{name}{missing}"):
                self.parts(**{name: "other"})
        with self.assertRaisesRegex(FlagError, f"^--test_split{missing}"):
            self.parts(test_dataset=f"folder:{self.folder}", test_split="other")
        self.assertEqual([len(part) for part in self.parts(test_split="val")], [10, 1])

    def test_a_broken_mask_is_no_part_of_a_share_of_the_labels(self):
        options = SegmentOptions.make(dataset=f"folder:{self.folder}", label_fraction=0.99)
        options = options.replace(solver="lbfgs")
        train, _ = open_parts(resolve_test_split(options.replace(val_fraction=0.01)))
        broken = pathlib.Path(train.describe(4)).name
        file = self.folder / "masks" / broken
        file.write_bytes(file.read_bytes()[:45])
        with self.assertLogs("absl", "WARNING") as logs:
            drawn, count = draw_labeled(options, train)
        self.assertRegex(logs.output[0], rf"skipped.*/images/{broken}$")
        self.assertEqual((drawn.num_examples, count), (8, 8))
        self.assertNotIn(broken, " ".join(drawn.describe(index) for index in range(8)))
        with self.assertRaisesRegex(BrokenImagesError, "1 of the 9"):
            draw_labeled(options.replace(max_broken_share=0), train)

    def test_no_image_left_is_refused(self):
        with self.assertRaisesRegex(FlagError, "--val_fraction=0.99.*: no image is left"):
            self.parts(val_fraction=0.99)

    def test_folders_with_splits_have_no_fraction(self):
        for split in ("train", "val"):
            for part in ("images", "masks"):
                save_image(self.folder / split / part / f"{split}.png", np.eye(8, dtype=np.uint8))
        self.assertEqual([len(part) for part in self.parts()], [1, 1])
        with self.assertRaisesRegex(FlagError, "--val_fraction=0.2: .* has a test of its own"):
            self.parts(val_fraction=0.2)


class ClassesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def write(self, split, *values):
        folder = self.folder / split
        save_image(folder / "images" / f"{split}.png", np.zeros((2, len(values), 3)))
        save_image(folder / "labels" / f"{split}.png", np.tile(values, (2, 1)))

    def parts(self, **options):
        options = SegmentOptions.make(dataset=f"folder:{self.folder}", **options)
        return open_parts(resolve_test_split(options))

    def test_classes_of_the_test_alone_are_named_with_the_way_out(self):
        self.write("train", 0, 1, 3, 255)
        self.write("val", 0, 2, 5, 6)
        pairs = ("0:0", "1:1", "2:2", "3:3", "5:4", "6:5")
        with self.assertRaisesRegex(
            FlagError,
            r"^--dataset=\S+: the test masks have the values 5, 6, the training masks none above 3, .* in "
            rf"{self.folder}/classes\.txt, or by --label_map={','.join(pairs)}$",
        ):
            self.parts()
        _, test = self.parts(label_map=pairs)
        self.assertLen(test.class_names, 6)
        (self.folder / "classes.txt").write_text("a\nb\nc\nd\ne\nf\ng\n")
        self.assertEqual([len(part.class_names) for part in self.parts()], [7, 7])
        self.write("train", 0, 1)
        (self.folder / "classes.txt").rename(self.folder / "train" / "classes.txt")
        with self.assertRaisesRegex(FlagError, "Only here: class 0, .*; only in training: a, b"):
            self.parts()

    def test_classes_that_occur_nowhere_are_told_once(self):
        self.write("train", 0, 50, 255, 100)
        self.write("val", 0, 20)
        with self.assertLogs("absl", "WARNING") as logs:
            self.parts()
        (line,) = logs.output
        self.assertIn("only the values 0, 20, 50, 100: 97 of 101 classes occur nowhere", line)
        self.assertIn("--label_map=0:0,20:1,50:2,100:3 gives", line)

    def test_the_ignored_value_is_no_gap(self):
        self.write("train", 0, 1, 2, 4)
        self.write("val", 1, 2, 3)
        with self.assertNoLogs("absl", "WARNING"):
            self.parts()
        self.write("val", 1, 2, 0)
        with self.assertNoLogs("absl", "WARNING"):
            self.parts(ignore_value=3)


if __name__ == "__main__":
    tf.test.main()
