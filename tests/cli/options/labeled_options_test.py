import pathlib

import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options import labeled_options
from pixpro_keras.cli.options.evaluation_options import EvaluatedBackbone, EvaluationOptions
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.data.broken_images import BrokenImagesError
from pixpro_keras.data.sources import open_source
from tests.helpers.jobs import write_photos
from tests.helpers.shared_data import shared_path


def open_parts(folder):
    options = labeled_options.LabeledOptions(
        train_dataset=f"folder:{folder / 'train'}", test_dataset=f"folder:{folder / 'val'}"
    )
    return labeled_options.open_parts(options)


class OpenPartsTest(tf.test.TestCase):
    def test_a_class_without_test_images_keeps_the_numbers(self):
        with self.assertLogs("absl", "WARNING") as logs:
            parts = open_parts(shared_path("faults", "cls_emptyval"))
        self.assertIn("no image of these classes: dog", logs.output[-1])
        self.assertEqual(parts.test.class_names, ("cat", "dog", "eel"))
        self.assertEqual(set(parts.test_labels.tolist()), {0, 2})
        last = parts.test.read(tf.constant(parts.test.num_examples - 1, tf.int64))
        self.assertEqual((int(last["label"]), parts.num_classes), (2, 3))

    def test_hidden_folders_are_no_classes(self):
        parts = open_parts(shared_path("faults", "cls_ipynb_both"))
        self.assertEqual(parts.train.class_names, ("cat", "dog"))

    def test_classes_that_differ_are_listed(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for part, names in (("train", ("cat", "dog")), ("val", ("Cat", "dog"))):
            for name in names:
                write_photos(folder / part / name, count=1)
        with self.assertRaisesRegex(FlagError, "first has cat, only the second has Cat"):
            open_parts(folder)

    def test_classes_whose_names_look_alike_are_spelled(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for part, name in (("train", "caf\xe9"), ("val", "cafe\u0301")):
            for one in (name, "dog"):
                write_photos(folder / part / one, count=1)
        with self.assertRaisesRegex(
            FlagError, r"first has \S+ \(NFC, 'caf\\xe9'\), .* has \S+ \(NFD, 'cafe\\u0301'\)$"
        ):
            open_parts(folder)

    def test_one_class_is_refused(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for part in ("train", "val"):
            write_photos(folder / part / "cat", count=2)
        with self.assertRaisesRegex(FlagError, "/train: all 2 images are of the class cat, so"):
            open_parts(folder)
        write_photos(folder / "val" / "dog", count=2)
        with self.assertRaisesRegex(FlagError, "first has none, only the second has dog"):
            open_parts(folder)

    def test_joined_data_sets_need_the_same_classes(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for name in ("a/cat", "a/dog", "b/cat", "val/cat"):
            write_photos(folder / name, count=1)
        options = labeled_options.LabeledOptions(
            train_dataset=f"folder:{folder}/a+folder:{folder}/b",
            test_dataset=f"folder:{folder}/val",
        )
        with self.assertRaisesRegex(
            FlagError, "^--train_dataset=.*: .* must have the same classes"
        ):
            labeled_options.open_parts(options)

    def test_labels_without_names_are_not_compared_with_names(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(folder / "train" / "cat", count=1)
        image = (folder / "train" / "cat" / "0.jpg").read_bytes()
        features = {
            "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
            "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        with tf.io.TFRecordWriter(f"{folder}/val.tfrecord") as writer:
            writer.write(example.SerializeToString())
        specs = [f"folder:{folder}/train", f"tfrecord:{folder}/val.tfrecord"]
        for train, test in (specs, specs[::-1]):
            options = labeled_options.LabeledOptions(train_dataset=train, test_dataset=test)
            with self.assertRaisesRegex(FlagError, r"^tfrecord:\S+ has labels without names"):
                labeled_options.open_parts(options)

    def test_test_images_that_are_training_images_are_told(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        for name in ("one", "two"):
            write_photos(folder / "train" / name, count=1)
        (folder / "val").symlink_to("train")
        for test in ("train", "val"):
            options = labeled_options.LabeledOptions(
                train_dataset=f"folder:{folder}/train", test_dataset=f"folder:{folder}/{test}"
            )
            with self.assertLogs("absl", "WARNING") as logs:
                labeled_options.open_parts(options)
            self.assertRegex(
                logs.output[-1], rf"2 of the 2 test images are .*, such as {folder}/{test}/one/0"
            )

    def test_the_layout_and_the_flag_that_was_given_are_named(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(folder / "val" / "cat", count=1)
        options = labeled_options.LabeledOptions.make(dataset=f"folder:{folder}")
        with self.assertRaisesRegex(FlagError, r"^--dataset=.*folders train and val.*no .*/train"):
            labeled_options.resolve_parts(options)
        (folder / "train").mkdir()
        options = labeled_options.resolve_parts(options)
        with self.assertRaisesRegex(FlagError, r"^--dataset=folder:\S+: \S+/train holds no image"):
            labeled_options.open_parts(options)


class WithoutSplitsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def parts(self, **options):
        options = labeled_options.LabeledOptions.make(dataset=f"folder:{self.folder}", **options)
        options = labeled_options.resolve_parts(options)
        return labeled_options.open_parts(options)

    def test_a_share_of_each_class_is_the_test(self):
        for seed, (name, count) in enumerate((("cat", 8), ("dog", 4), ("eel", 1))):
            write_photos(self.folder / name, count=count, seed=seed)
        with self.assertLogs("absl", "INFO") as logs:
            parts = self.parts(val_fraction=0.25)
        self.assertIn("has no splits: 3 of its 13 images are the test", " ".join(logs.output))
        self.assertIn("--val_fraction=0.25, --seed=0", " ".join(logs.output))
        self.assertEqual(np.bincount(parts.test_labels).tolist(), [2, 1])
        self.assertEqual(np.bincount(parts.train_labels).tolist(), [6, 3, 1])
        self.assertEqual(parts.num_classes, 3)
        names = [
            {source.describe(index) for index in range(source.num_examples)}
            for source in (parts.train, parts.test)
        ]
        self.assertLen(names[0] | names[1], 13)
        self.assertAllEqual(self.parts(val_fraction=0.25).test_labels, parts.test_labels)

    def test_what_is_no_folder_of_classes(self):
        write_photos(self.folder / "cat", count=2)
        for other, message in (
            ("Valid", "folders train and val"),
            (".hidden", "there is no .*train"),
        ):
            write_photos(self.folder / other, count=2)
            with self.assertRaisesRegex(FlagError, message):
                self.parts()
            for file in (self.folder / other).iterdir():
                file.unlink()
            (self.folder / other).rmdir()

    def test_a_data_set_with_a_test_of_its_own(self):
        for part in ("train", "val"):
            write_photos(self.folder / part / "cat", count=1)
        with self.assertRaisesRegex(FlagError, "--val_fraction=0.5: .* has a test of its own"):
            self.parts(val_fraction=0.5)


class BrokenTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(self.folder / "a", count=6)
        whole = (self.folder / "a" / "2.jpg").read_bytes()
        (self.folder / "a" / "2.jpg").write_bytes(whole[: len(whole) // 2])
        self.source = open_source(f"folder:{self.folder}")

    def features(self, network=lambda images, training: images, **values):
        options = EvaluationOptions(image_size=8, **values)
        backbone = EvaluatedBackbone(network, lambda images: images, "")
        return labeled_options.frozen_features(options, backbone, self.source, batch_size=4)

    def test_one_is_passed_over_and_named(self):
        with self.assertLogs("absl", "WARNING") as logs:
            features = self.features()
        self.assertEqual(features.pooled.shape, (5, 3))
        self.assertIn("a/2.jpg", "".join(logs.output))
        self.assertAllEqual(features.labels, np.zeros(5))

    def test_features_that_are_not_finite_are_refused(self):
        def network(images, training):
            rows = tf.range(tf.shape(images)[0])[:, None, None, None]
            return tf.where(rows == 1, np.nan, images)

        with self.assertRaisesRegex(
            FlagError,
            f"^--backbone=resnet50: the features of 1 of 5 images of folder:{self.folder} ",
        ):
            self.features(network)

    def test_too_many_are_refused(self):
        with self.assertRaisesRegex(BrokenImagesError, r"1 of the 6 images.*a/2\.jpg"):
            self.features(max_broken_share=0.0)
        (self.folder / "a" / "5.jpg").write_bytes(b"")
        with self.assertRaisesRegex(BrokenImagesError, r"2 of the 6 images"):
            self.features()


if __name__ == "__main__":
    tf.test.main()
