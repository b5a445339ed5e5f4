import contextlib
import io
import json
import pathlib
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.cli.pretrain import PretrainOptions
from pixpro_keras.cli.shared import parsing
from pixpro_keras.training import open_workdir
from pixpro_keras.weights import export_backbone
from tests.helpers.jobs import TINY_RUN, StartedJob, run_job, run_jobs, write_photos
from tests.helpers.random_weights import randomize
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
    ("--threshold=-1", "--threshold=-1"),
    ("--temperature=0", "--temperature=0"),
    ("--schedule=steps --decay_epochs=3,2", "--decay_epochs=3,2"),
    ("--decay_epochs=3", "--decay_epochs=3"),
    ("--augmentation=infomin", "--augmentation=infomin"),
    ("--method=supervised", "--projector_hidden_dim=16: --method=supervised does not have it"),
    ("--queue_size=7", "--queue_size=7: --method=pixpro does not have it"),
    (
        "--method=pixcontrast --queue_size=7",
        "--queue_size=7: --method=pixcontrast does not have it",
    ),
    (
        "--target_encoder=false --base_momentum=0.9",
        "--base_momentum=0.9: --method=pixpro does not have",
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


def metrics(workdir):
    lines = (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


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
        self.assertEqual([line["step"] for line in metrics(run)], [1, 2, 3, 4])
        for line in metrics(run):
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
        losses = [[line["loss"] for line in metrics(run)] for run in (plain, other)]
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
        self.assertEqual([line["step"] for line in metrics(self.folder / "cut")], [*range(1, 9)])

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


class PretrainFunctionTest(tf.test.TestCase):
    """`pixpro_keras.pretrain`, in this process."""

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.photos = write_photos(self.folder / "photos")

    def pretrain(self, **options):
        tiny = {
            "dataset": self.photos,
            "workdir": self.folder / "run",
            "backbone": "resnet6_v1_5",
            "projector_hidden_dim": 16,
            "projector_dim": 8,
            "image_size": 32,
            "batch_size": 4,
            "strategy": "one_device",
            "log_every_steps": 1,
        }
        return pixpro_keras.pretrain(**(tiny | options))

    @pytest.mark.slow
    def test_one_call_does_what_the_command_does(self):
        flags = {"preset": "pixpro_small", "epochs": 2, "checkpoint_every_steps": 2}
        flags |= {"backbone": "resnet10_v1_5"}  # the preset's loss is on several levels
        flags |= {"precision": "float32", "warmup_epochs": 0}
        policy = keras.mixed_precision.global_policy().name
        result = self.pretrain(**flags, picture_every_steps=3)
        self.assertEqual((result.steps, result.stop_signal, result.exit_code), (4, None, 0))
        self.assertEqual(result.metrics["step"], 4)
        self.assertEqual(keras.mixed_precision.global_policy().name, policy)
        for name in ("flags.cfg", "metrics.jsonl", "curves.png", "export/README.md"):
            self.assertTrue((self.folder / "run" / name).exists(), msg=name)
        self.assertIn(self.folder / "run" / "export" / "backbone.keras", result.exported)
        self.assertEqual(result.backbone(np.zeros((1, 64, 64, 3))).shape, (1, 2, 2, 512))
        text = (self.folder / "run" / "flags.cfg").read_text()
        self.assertIn("--batch_size=4\n", text)
        self.assertIn(f"--dataset=folder:{self.photos}\n", text)
        # The same call continues where the run was cut off; pictures, which may change, take longest.
        for file in (self.folder / "run" / "checkpoints").glob("ckpt-4*"):
            file.unlink()
        again = self.pretrain(**flags, picture_every_steps=0)
        self.assertEqual([line["step"] for line in metrics(self.folder / "run")], [1, 2, 3, 4])
        for one, two in zip(result.backbone.weights, again.backbone.weights, strict=True):
            self.assertAllClose(one, two, atol=1e-5)

    @pytest.mark.slow
    def test_a_run_is_not_overwritten(self):
        run = self.folder / "run"
        flags = {"method": "simclr", "picture_every_steps": 0, "warmup_epochs": 0}
        self.pretrain(**flags, epochs=1)
        others = write_photos(self.folder / "others", count=12)
        changed = {"seed": 1, "min_crop_area": 0.5, "dataset": others}
        history = (run / "history.json").read_bytes()
        with self.assertRaises(ValueError) as refused:
            self.pretrain(**flags, **changed, epochs=2)
        for text in (
            f"--workdir={run}: its 2 steps were trained with other settings",
            "seed was 0, is 1",
            "min_crop_area was 0.08, is 0.5",
            f"dataset was folder:{self.photos}, is folder:{others}",
            "num_images was 8, is 12",
            "--on_change=continue",
        ):
            self.assertIn(text, str(refused.exception))
        # What does not matter to the weights may change; a finished run only writes its results.
        with contextlib.redirect_stdout(io.StringIO()) as output:
            free = self.pretrain(**flags, epochs=1, log_every_steps=2, keep_checkpoints=1)
        self.assertEqual(free.steps, 2)
        self.assertIn("is finished: all its 2 steps are done", output.getvalue())
        self.assertNotIn("#", (run / "flags.cfg").read_text())
        # A dry run says so, and leaves all as it is.
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.assertTrue(self.pretrain(**flags, epochs=1, dry_run=True).is_dry_run)
        self.assertIn("The run is finished: nothing would be trained", output.getvalue())
        with self.assertRaisesRegex(ValueError, "trained with other settings: .*seed was 0, is 1"):
            self.pretrain(**flags, **changed, epochs=2, dry_run=True)
        self.assertEqual((run / "history.json").read_bytes(), history)
        # What nothing was trained with is nowhere.
        changed |= {"on_change": "continue", "epochs": 1}
        finished = self.pretrain(**flags, **changed, steps_per_epoch=2)
        self.assertEqual(finished.steps, 2)
        card = unpadded((run / "export" / "README.md").read_text())
        self.assertIn("| Data | folder:photos, 8 images |", card)
        self.assertIn("--seed=0\n", card)
        self.assertIn("--seed=0\n", (run / "flags.cfg").read_text())
        # Knowingly.
        went_on = self.pretrain(**flags, **changed)
        self.assertEqual(went_on.steps, 3)
        text = (run / "flags.cfg").read_text()
        self.assertRegex(text, "# Steps 0 to 2 of this run: .*seed=0")
        self.assertRegex(text, f"# Steps 0 to 2 of this run: .*dataset=folder:{self.photos}")
        self.assertRegex(text, "# Steps from 2 on: the flags below: .*seed=1")
        self.assertIn("--seed=1\n", text)
        self.assertNotIn("on_change", text)
        card = unpadded((run / "export" / "README.md").read_text())
        data = "folder:photos, 8 images (steps 0 to 2); folder:others, 12 images (steps 2 to 3)"
        self.assertIn(f"| Data | {data} |", card)
        self.assertIn("| Steps | 3 of 4 images |", card)
        self.assertRegex(card, r"\| History \| steps 0 to 2: .*seed=0.*; steps 2 to 3: .*seed=1")
        self.assertNotIn(str(self.folder), card)
        with self.assertRaisesRegex(ValueError, "--epochs=1: 3 steps are done already, more than"):
            self.pretrain(**flags, **changed, steps_per_epoch=2)

    @pytest.mark.slow
    def test_a_run_begins_with_weights(self):
        file, run = self.folder / "first" / "backbone.keras", self.folder / "run"
        first = randomize(backbones.build("resnet10_v1_5"))
        export_backbone(first, "resnet10_v1_5", file.parent)
        flags = {
            "optimizer": "sgd",
            "base_learning_rate": 1e-30,
            "end_learning_rate": 0,
            "epochs": 1,
        }
        flags |= {"picture_every_steps": 0, "output_stride": 16, "precision": "mixed_bfloat16"}
        flags |= {"backbone": "resnet10_v1_5"}
        with self.assertLogs("absl", "INFO") as logs:
            result = self.pretrain(**flags, init_weights=file)
        self.assertIn("--zero_init_residual and --kernel_fan", " ".join(logs.output))
        for encoder in (result.method.encoder, result.method.target_encoder):
            for one, two in zip(encoder.backbone.weights, first.weights, strict=True):
                if "moving" not in two.name:
                    self.assertAllClose(one, two, rtol=1e-6)
        self.assertIn(f"--init_weights={file}\n", (run / "flags.cfg").read_text())
        card = unpadded((run / "export" / "README.md").read_text())
        self.assertIn("| Initial weights | backbone.keras |\n", card)
        self.assertNotIn(str(self.folder), card)
        # It goes on without the file, which is part of what it was trained with.
        file.unlink()
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(self.pretrain(**flags, init_weights=file).steps, 2)
        with self.assertRaisesRegex(ValueError, f"init_weights was {file}, is None"):
            self.pretrain(**flags | {"epochs": 2})

    def test_weights_of_another_network_are_refused(self):
        file = self.folder / "first" / "backbone.keras"
        export_backbone(backbones.build("resnet10_v1_5"), "resnet10_v1_5", file.parent)
        for weights, error in (
            (file, "--backbone=resnet18_v1_5: --init_weights=.*backbone.keras is resnet10_v1_5"),
            ("imagenet", "--backbone=resnet18_v1_5: .* no ImageNet weights of resnet18_v1_5"),
            ("nowhere", "--init_weights=nowhere --backbone=resnet18_v1_5: "),
        ):
            with self.assertRaisesRegex(ValueError, error):
                self.pretrain(backbone="resnet18_v1_5", init_weights=weights)
        self.assertFalse((self.folder / "run").exists())

    def test_a_failed_start_leaves_nothing(self):
        for options in ({"batch_size": 9}, {"eval_every_epochs": 1}):
            with self.assertRaises(ValueError):
                self.pretrain(**options)
            self.assertEqual([path.name for path in self.folder.iterdir()], ["photos"])

    def test_two_runs_in_one_directory(self):
        refused = self.assertRaisesRegex(ValueError, "--workdir=.*run: a run is going on there")
        with open_workdir(self.folder / "run"):
            for dry_run in (False, True):
                with refused:
                    self.pretrain(dry_run=dry_run)

    def test_images_and_directory_are_required(self):
        with self.assertRaisesRegex(ValueError, "--workdir: must be given"):
            pixpro_keras.pretrain(self.photos)
        with self.assertRaisesRegex(ValueError, "--workdir and --dataset: must be given"):
            pixpro_keras.pretrain()
        with self.assertRaisesRegex(ValueError, "--dataset: must be given"):
            pixpro_keras.pretrain(workdir=self.folder / "run")
        options, _ = parsing.parse(PretrainOptions, ["--flagfile=quickstart.cfg"])
        self.assertEqual(options.check_required().dataset, "scenes")

    def test_errors_name_the_option(self):
        with self.assertRaisesRegex(TypeError, "no option `gama`. Did you mean `gamma`"):
            self.pretrain(gama=3)
        with self.assertRaisesRegex(ValueError, "--gamma=0.0: must be positive"):
            self.pretrain(gamma=0)
        with self.assertRaisesRegex(ValueError, "--batch_size=9: .* has only 8 images"):
            self.pretrain(batch_size=9)
        with self.assertRaisesRegex(ValueError, "--flagfile=pixpro_r51.cfg: no such file"):
            self.pretrain(preset="pixpro_r51")


if __name__ == "__main__":
    tf.test.main()
