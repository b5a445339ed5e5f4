import os
import pathlib
import signal

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli.make_tfrecords import write_shard
from tests.helpers.broken_off_jobs import break_off
from tests.helpers.examples import save_image, write_voc
from tests.helpers.jobs import write_photos
from tests.helpers.tiny_networks import RESNET6

# Rounds of each job; the environment may ask for more of them, at other moments.
ROUNDS = int(os.environ.get("PIXPRO_EXIT_ROUNDS", "4"))
SIGNALS = [signal.SIGINT, signal.SIGINT, signal.SIGINT, signal.SIGTERM]
SMALL = (f"--backbone={RESNET6}", "--image_size=32", "--batch_size=4")
ENDLESS = ("--epochs=100000", "--log_every_steps=1")


@pytest.mark.slow
class ExitsTest(tf.test.TestCase, parameterized.TestCase):
    def flags(self, job):
        folder = pathlib.Path(self.create_tempdir().full_path)
        if job == "detect":
            write_voc(folder, [[("cat", 0, 5, 5, 30, 30)]] * 4)
            write_voc(folder, [[("cat", 0, 5, 5, 30, 30)]], split="val")
            flags = (f"--dataset=voc:{folder}", "--train_split=2007_trainval")
            flags += ("--test_split=2007_val", "--backbone=resnet10_v1_5", "--batch_size=2")
            flags += ("--short_sides=48", "--max_side=64", "--num_rois=8", "--max_proposals=8")
            return folder, (*flags, *ENDLESS)
        if job == "segment":
            for split in ("train", "val"):
                for number in range(4):
                    image = np.full((48, 48, 3), 50 * number, np.uint8)
                    save_image(folder / split / "images" / f"{number}.png", image)
                    mask = image[..., 0] // 50 % 2
                    save_image(folder / split / "labels" / f"{number}.png", mask, palette=True)
            (folder / "classes.txt").write_text("one\ntwo\n")
            flags = (f"--dataset=folder:{folder}", "--backbone=resnet10_v1_5", "--batch_size=2")
            flags += ("--crop_size=32", "--window_stride=32", "--nocolor_jitter", "--frozen")
            return folder, (*flags, *ENDLESS)
        for split in ("train", "val"):
            for name in ("one", "two"):
                write_photos(folder / split / name, count=6)
        flags = (f"--dataset=folder:{folder}", *SMALL)
        if job == "knn":
            return folder, (*flags, "--k=3")
        if job == "pretrain":
            files = [str(file).encode() for file in folder.glob("train/*/*.jpg")]
            write_shard(f"{folder}/a.tfrecord", "", files, [-1] * len(files), None)
            # Without changes of color, whose compilation takes longest.
            flags = (f"--dataset=tfrecord:{folder}/*.tfrecord", *SMALL, "--augmentation=supervised")
            flags += ("--method=simclr", "--optimizer=sgd", "--picture_every_steps=0")
        return folder, (*flags, *ENDLESS)

    @parameterized.parameters("pretrain", "detect", "segment", "knn", "linear_probe")
    def test_a_job_ends_after_its_last_line(self, job):
        folder, flags = self.flags(job)
        signals = [SIGNALS[number % len(SIGNALS)] for number in range(ROUNDS)]
        # Before the command begins and after its end a signal ends the process as any other.
        ends = (0, 130, 143, -signal.SIGINT, -signal.SIGTERM)
        seed = int(os.environ.get("PIXPRO_EXIT_SEED", "0"))
        flags = (*flags, f"--workdir={folder}/run")
        for code, seconds, in_all, text in break_off(job, flags, signals, seed):
            print(
                f"{job}: ended with {code} {seconds:.2f} s after its last line, {in_all:.1f} s in all"
            )
            self.assertIn(code, ends, msg=text)
            self.assertLess(seconds, 5, msg=text)
            self.assertNotIn("Traceback", text)


if __name__ == "__main__":
    tf.test.main()
