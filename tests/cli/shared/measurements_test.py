import pathlib

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.cli.shared.measurements import build_measurements
from pixpro_keras.data.broken_images import BrokenImagesError
from tests.helpers.examples import save_image


class BuildMeasurementsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        rng = np.random.default_rng(0)
        for split in ("train", "val"):
            for number in range(8):
                label = number % 2
                image = rng.integers(0, 50, (16, 16, 3))
                image[..., label] += 100  # red or green
                save_image(self.folder / "labeled" / split / f"{label}" / f"{number}.png", image)
                save_image(self.folder / "masks" / split / "images" / f"{number}.png", image)
                mask = np.full((16, 16), label)
                save_image(self.folder / "masks" / split / "labels" / f"{number}.png", mask)

    def measure(self, max_broken_share):
        (monitor,) = self.build(
            max_broken_share,
            eval_every_epochs=1,
            eval_train_dataset=f"folder:{self.folder / 'labeled' / 'train'}",
            eval_test_dataset=f"folder:{self.folder / 'labeled' / 'val'}",
            eval_mask_dataset=f"folder:{self.folder / 'masks'}",
            eval_mask_size=("16", "16"),
        )
        return [monitor(step) for step in (3, 6)]

    def build(self, max_broken_share=0.0, **values):
        options = PretrainOptions.make(
            dataset="scenes",
            workdir="run",
            image_size=16,
            steps_per_epoch=3,
            max_broken_share=max_broken_share,
            **values,
        )
        return build_measurements(
            options,
            keras.Sequential([keras.Input((16, 16, 3)), keras.layers.AveragePooling2D(4)]),
            lambda images: images / 255,
            tf.distribute.get_strategy(),
        )

    def test_none_by_default(self):
        self.assertEqual(self.build(), [])

    def test_broken_images_are_passed_over_and_named_once(self):
        broken = ("labeled/train/0/2.png", "labeled/val/1/3.png")
        broken += ("masks/train/images/4.png", "masks/val/images/5.png")
        for name in broken:
            (self.folder / name).write_bytes((self.folder / name).read_bytes()[:60])
        with self.assertLogs("absl", "WARNING") as logs:
            values = self.measure(max_broken_share=0.2)
        self.assertEqual(values, [{"knn_top1": 1.0, "cells_miou": 1.0}] * 2)
        text = "\n".join(logs.output)
        self.assertEqual([text.count(name) for name in broken], [1, 1, 1, 1])
        with self.assertRaisesRegex(BrokenImagesError, r"1 of the 8 images.*labeled/train/0/2"):
            self.measure(max_broken_share=0.0)


if __name__ == "__main__":
    tf.test.main()
