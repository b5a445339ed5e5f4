import pathlib
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.helpers.files import read_metrics
from tests.helpers.jobs import TINY_RUN, StartedJob, run_job, run_jobs, write_photos
from tests.helpers.tables import unpadded

# Flags, and what the error names.
BAD_INPUT = (
    ("--method=simsiam", "--method=simsiam"),
    ("--backbone=resnet51", "--backbone=resnet51"),
    ("--precision=float8", "--precision=float8"),
    ("--strategy=horovod", "--strategy=horovod"),
    ("--dataset=imagenet", "--dataset=imagenet"),
    ("--dataset=folder:/nowhere", "--dataset=folder:/nowhere"),
    ("--dataset=tfds:no_such_set", "--dataset=tfds:no_such_set"),
    ("--dataset=tfrecord:/nowhere/*.tfrecord", "--dataset=tfrecord:/nowhere"),
    ("--batch_size=3 --accumulate_steps=2", "--batch_size=3"),
    ("--batch_size=9", "--batch_size=9"),
    ("--image_size=16", "--image_size=16"),
    ("--gamma=0", "--gamma=0"),
    ("--seed=-1", "--seed=-1"),
    ("--threshold=-1", "--threshold=-1"),
    ("--temperature=0", "--temperature=0"),
    ("--schedule=steps --decay_epochs=inf", "--decay_epochs=inf"),
    ("--schedule=steps --decay_epochs=3,2", "--decay_epochs=3,2"),
    ("--decay_epochs=3", "--decay_epochs=3"),
    ("--augmentation=infomin", "--augmentation=infomin"),
    ("--method=supervised", "--projector_hidden_dim=16: --method=supervised does not have it"),
    ("--queue_size=7", "--queue_size=7: --method=pixpro does not have it"),
    (
        "--method=pixcontrast --queue_size=7",
        "--queue_size=7: only --negatives=queue has a queue",
    ),
    (
        "--target_encoder=false --base_momentum=0.9",
        "--base_momentum=0.9: without a target encoder",
    ),
    ("--eval_every_epochs=1", "--eval_train_dataset"),
    ("--eval_every_epochs=1 --eval_train_dataset=scenes", "--eval_test_dataset"),
    ("--eval_every_epochs=1 --eval_mask_dataset=folder:/nowhere", "--eval_mask_dataset"),
    ("--method=infomin --augmentation=infomin --augment_on=device", "--augment_on=device"),
    ("--method=byol --fpn", "--fpn"),
    ("--backbone=resnet18_v1_5 --fpn --remat", "--remat"),
    ("--fpn --image_size=48", "--image_size=48"),
    (
        "--method=pixcontrast --pixel_levels=c4,c5",
        "--pixel_levels=c4,c5",
    ),  # the backbone has one level
    ("--workdir=/dev/null/run", "--workdir=/dev/null/run"),
    ("--epochs=0", "--epochs=0"),
    ("--no_such_flag=1", "no_such_flag"),
    ("positional", "positional"),
)


@pytest.mark.slow
class PretrainTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = pathlib.Path(cls.create_tempdir(cls()).full_path)
        cls.flags = (*TINY_RUN, f"--dataset=folder:{write_photos(cls.shared / 'photos')}")

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def plain_run(self):
        """A run of one epoch, for tests that do not write in it."""
        if not (self.shared / "run").exists():
            self.pretrain("--epochs=1", "--zero_init_residual=false", workdir=self.shared / "run")
        return self.shared / "run"

    def pretrain(self, *flags, workdir="run"):
        result = run_job("pretrain.py", *self.flags, f"--workdir={self.folder / workdir}", *flags)
        self.assertEqual(result.returncode, 0, msg=result.stdout + result.stderr)
        return result

    def backbone(self, workdir):
        path = self.folder / workdir / "export" / "backbone.keras"
        return keras.saving.load_model(path, compile=False)

    def test_a_run_leaves_everything(self):
        result = self.pretrain("--epochs=2", "--picture_every_steps=4")
        run = self.folder / "run"
        self.assertIn("epoch 2/2", result.stdout + result.stderr)
        self.assertIn("backbone.keras", result.stdout)
        self.assertNotIn("Traceback", result.stderr)
        self.assertEqual([line["step"] for line in read_metrics(run)], [1, 2, 3, 4])
        for line in read_metrics(run):
            self.assertTrue(np.isfinite(list(line.values())).all(), msg=str(line))
        self.assertNotEmpty(list(run.glob("events.out.tfevents.*")))
        self.assertNotEmpty(list((run / "pictures").glob("*.png")))
        self.assertNotEmpty(list((run / "checkpoints").glob("ckpt-4*")))
        self.assertEqual(self.backbone("run")(np.zeros((1, 64, 64, 3))).shape, (1, 16, 16, 64))
        self.assertTrue((run / "curves.png").exists())
        card = unpadded((run / "export" / "README.md").read_text())
        for line in (
            "| Data | folder:photos, 8 images |",
            "| Steps | 4 of 4 images (2 epochs) |",
            "| step | 4 |",
            "| License of the weights | unknown |",
            "--projector_dim=8",
        ):
            self.assertIn(line, card.splitlines())
        for folder in (self.folder, self.shared):
            self.assertNotIn(str(folder), card)  # where things lie is nobody's business
        # The same backbone again, from the checkpoint.
        # Whatever its flag file says, it writes where the command says.
        flags, elsewhere = (run / "flags.cfg").read_text(), self.folder / "elsewhere"
        (run / "flags.cfg").write_text(f"{flags}--workdir={elsewhere}\n--output={elsewhere}\n")
        exported = run_job(
            "export.py", f"--workdir={run}", f"--output={self.folder / 'out'}", "--license=cc0-1.0"
        )
        self.assertEqual(exported.returncode, 0, msg=exported.stderr)
        again = unpadded((self.folder / "out" / "README.md").read_text())
        self.assertIn("license: cc0-1.0\n", again)
        self.assertIn("| step | 4 |", again)
        self.assertFalse(elsewhere.exists())
        (run / "flags.cfg").write_text(flags)
        again = keras.saving.load_model(self.folder / "out" / "backbone.keras", compile=False)
        for one, two in zip(self.backbone("run").weights, again.weights, strict=True):
            self.assertAllEqual(one, two)
        refused = run_job("export.py", f"--workdir={run}", "--format=keras_applications")
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, "error: --format=.*no such network")
        # flags.cfg alone repeats the run.
        # Pictures change nothing, and take longest.
        flags = (f"--flagfile={run / 'flags.cfg'}", "--picture_every_steps=0")
        again = run_job("pretrain.py", *flags, f"--workdir={self.folder / 'again'}")
        self.assertEqual(again.returncode, 0, msg=again.stderr)
        for one, two in zip(
            self.backbone("run").weights, self.backbone("again").weights, strict=True
        ):
            self.assertAllEqual(one, two)

    def test_colors_on_the_device_and_activations_twice_change_nothing(self):
        plain, other = self.plain_run(), self.folder / "other"
        last_of_block = self.backbone(plain).get_layer("conv2_block1_2_bn")
        self.assertAllClose(last_of_block.gamma, np.ones(64), atol=0.3)
        flags = ("--epochs=1", "--picture_every_steps=2", "--zero_init_residual=false")
        self.pretrain(*flags, "--augment_on=device", "--remat", workdir=other)
        losses = [[line["loss"] for line in read_metrics(run)] for run in (plain, other)]
        self.assertLen(losses[0], 2)
        self.assertAllClose(losses[1], losses[0], atol=1e-3)  # of 2 that it falls from

    def test_a_killed_run_continues_exactly(self):
        self.pretrain("--epochs=4", workdir="whole")
        flags = (*self.flags, "--epochs=4", "--checkpoint_every_steps=1")
        process = StartedJob("pretrain.py", *flags, f"--workdir={self.folder / 'cut'}")
        deadline = time.time() + 120
        while not list((self.folder / "cut").glob("checkpoints/ckpt-2.index")):
            self.assertLess(time.time(), deadline, "no checkpoint appeared")
            time.sleep(0.01)
        checkpoints = self.folder / "cut" / "checkpoints"
        while process.is_running() and not list(checkpoints.glob("*_temp*")):
            time.sleep(0.001)  # in the middle of saving
        process.send_signal(signal.SIGKILL)
        process.wait()
        devices = self.folder / "cut" / "devices.json"
        devices.write_text(devices.read_text().replace('"replicas": 1', '"replicas": 2'))
        result = self.pretrain("--epochs=4", "--checkpoint_every_steps=1", workdir="cut")
        self.assertIn("Continuing from", result.stderr)
        self.assertIn("replicas was 2, is 1. The order of the images", result.stderr)
        self.assertEmpty(list(checkpoints.glob("*_temp*")))
        for one, two in zip(
            self.backbone("whole").weights, self.backbone("cut").weights, strict=True
        ):
            self.assertAllEqual(one, two)
        self.assertEqual(
            [line["step"] for line in read_metrics(self.folder / "cut")], [*range(1, 9)]
        )

    def test_ctrl_c_saves_and_says_so(self):
        flags = (*self.flags, "--epochs=100000", f"--workdir={self.folder / 'run'}")
        process = StartedJob("pretrain.py", *flags)
        deadline = time.time() + 120
        while not (self.folder / "run" / "metrics.jsonl").exists():
            self.assertLess(time.time(), deadline, "the run did not start")
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        result = process.wait()
        self.assertEqual(result.returncode, 128 + signal.SIGINT)
        self.assertIn("The same command continues", result.stdout)
        self.assertNotEmpty(list((self.folder / "run" / "checkpoints").glob("ckpt-*.index")))

    def test_bad_input_is_one_line_naming_the_flag(self):
        own = (*self.flags, f"--workdir={self.folder / 'run'}")
        results = run_jobs("pretrain.py", [(*own, *flags.split()) for flags, _ in BAD_INPUT])
        for result, (flags, named) in zip(results, BAD_INPUT, strict=True):
            with self.subTest(flags):
                self.assertNotEqual(result.returncode, 0)
                lines = [x for x in result.stderr.splitlines() if x.startswith("error:")]
                self.assertLen(lines, 1, msg=result.stderr)
                self.assertIn(named, lines[0])
                self.assertNotIn("Traceback", result.stderr)

    def test_a_dry_run_tells_what_the_run_takes_and_leaves_nothing(self):
        result = self.pretrain("--epochs=1000", "--dry_run")
        for pattern in (
            "method +pixpro",
            "parameters +[0-9,]+",
            "speed .*images/s",
            "time .*2000 steps",
        ):
            self.assertRegex(result.stdout, pattern)
        self.assertRegex(result.stdout, "memory +[0-9,]+ MiB")
        self.assertFalse((self.folder / "run").exists())

    def test_an_empty_folder_and_files_that_are_no_images(self):
        empty = self.folder / "empty"
        empty.mkdir()
        fake = self.folder / "fake"
        fake.mkdir()
        for index in range(8):
            (fake / f"{index}.jpg").write_text("not an image")
        folders = (empty, fake)
        lines = [
            (*TINY_RUN, f"--dataset=folder:{folder}", f"--workdir={self.folder / 'runs' / 'one'}")
            for folder in folders
        ]
        for folder, result in zip(folders, run_jobs("pretrain.py", lines), strict=True):
            self.assertEqual(result.returncode, 1)
            (line,) = [x for x in result.stderr.splitlines() if x.startswith("error:")]
            self.assertIn(f"--dataset=folder:{folder}", line)
            self.assertFalse((self.folder / "runs").exists())

    def test_labels_that_are_missing(self):
        flags = ("--method=supervised", "--backbone=resnet18_v1_5", "--image_size=32")
        flags += ("--batch_size=4", f"--workdir={self.folder / 'run'}")
        result = run_job("pretrain.py", *flags, self.flags[-1])
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"error: {self.flags[-1]}: ", result.stderr)

    def test_a_checkpoint_of_another_model(self):
        flags = (*self.flags, "--epochs=1", "--projector_dim=4", "--zero_init_residual=false")
        result = run_job("pretrain.py", *flags, f"--workdir={self.plain_run()}")
        self.assertEqual(result.returncode, 1)
        self.assertIn("projector_dim was 8, is 4", result.stderr)
        self.assertNotIn("Traceback", result.stderr)


if __name__ == "__main__":
    tf.test.main()
