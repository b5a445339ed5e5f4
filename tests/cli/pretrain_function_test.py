import contextlib
import io
import pathlib
import random
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

import pixpro_keras
from pixpro_keras import backbones
from pixpro_keras.cli import export
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.pretrain import PretrainOptions
from pixpro_keras.cli.shared import opened_run, run_views
from pixpro_keras.training import open_workdir
from pixpro_keras.utils.checksums import read_manifest
from pixpro_keras.weights import export_backbone
from tests.helpers.files import read_metrics
from tests.helpers.jobs import write_photos
from tests.helpers.random_weights import randomize
from tests.helpers.tables import unpadded


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
        self.assertEqual([line["step"] for line in read_metrics(self.folder / "run")], [1, 2, 3, 4])
        for one, two in zip(result.backbone.weights, again.backbone.weights, strict=True):
            self.assertAllClose(one, two, atol=1e-5)

    @pytest.mark.slow
    def test_formats_of_an_earlier_step_are_not_listed(self):
        flags = {"method": "simclr", "picture_every_steps": 0, "warmup_epochs": 0}
        run = self.folder / "run"
        self.pretrain(**flags, epochs=1)

        def write(*formats, features="c5"):
            options = export.ExportOptions.make(input=str(run), format=formats, features=features)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                export.run(options)
            return output.getvalue()

        def listed():
            card = (run / "export" / "README.md").read_text()
            names = {name.partition("/")[0] for name in read_manifest(run / "export/SHA256SUMS")}
            for name in ("backbone.keras", "release.pth", "saved_model"):
                self.assertEqual(f"`{name}" in card, name in names)
            return names

        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.pretrain(**flags, epochs=1)  # the same weights
        self.assertNotIn("Of other weights", write("saved_model", "torch") + output.getvalue())
        self.assertEqual(listed(), {"backbone.keras", "release.pth", "saved_model"})
        write("saved_model", features="pooled")
        with contextlib.redirect_stdout(io.StringIO()) as output:
            self.pretrain(**flags, epochs=2)
        self.assertIn(
            f"{run / 'export' / 'release.pth'}, {run / 'export' / 'saved_model'}, "
            f"{run / 'export' / 'saved_model_pooled'}\n"
            f"To write them again: pixpro-export --input={run} --format=torch,saved_model\n"
            f"To write them again: pixpro-export --input={run} --format=saved_model --features=pooled\n",
            output.getvalue(),
        )
        self.assertEqual(listed(), {"backbone.keras"})
        self.assertTrue((run / "export" / "release.pth").exists())
        self.assertNotIn("Of other weights", write("saved_model", "torch"))
        self.assertEqual(listed(), {"backbone.keras", "release.pth", "saved_model"})

    @pytest.mark.slow
    def test_an_export_writes_the_fpn_of_the_same_step(self):
        run = self.folder / "run"
        flags = {"backbone": "resnet10_v1_5", "fpn": True, "image_size": 64, "epochs": 2}
        self.pretrain(**flags, warmup_epochs=0, picture_every_steps=0, checkpoint_every_steps=2)
        newest = dict(np.load(run / "export" / "fpn.npz"))
        export.run(export.ExportOptions(input=str(run)))
        self.assertAllClose(dict(np.load(run / "export" / "fpn.npz")), newest)
        export.run(export.ExportOptions(input=str(run), checkpoint="ckpt-2"))
        older = dict(np.load(run / "export" / "fpn.npz"))
        self.assertNotAllClose(older["lateral3/kernel"], newest["lateral3/kernel"])

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
        # As many other images.
        image = next(pathlib.Path(self.photos).glob("*.*"))
        renamed = image.rename(image.with_stem("another"))
        with self.assertRaisesRegex(
            ValueError, "other settings: checksum_of_image_list was .{16}, is"
        ):
            self.pretrain(**flags, epochs=2)
        renamed.rename(image)
        # Another image under the same name.
        content = image.read_bytes()
        image.write_bytes(content + b"more")
        with self.assertRaisesRegex(
            ValueError, "settings: checksum_of_file_contents was .{16}, is"
        ):
            self.pretrain(**flags, epochs=2)
        image.write_bytes(content)
        # What does not matter to the weights may change; a finished run only writes its results.
        with (
            mock.patch.object(run_views, "plan_image_cache", lambda *_: print("images are kept")),
            contextlib.redirect_stdout(io.StringIO()) as output,
        ):
            free = self.pretrain(**flags, epochs=1, log_every_steps=2, keep_checkpoints=1)
        self.assertEqual(free.steps, 2)
        # The last words before the results are that nothing is trained.
        self.assertRegex(
            output.getvalue(),
            "\nworkdir .*\nimages are kept\n.*is finished: all its 2 steps are done",
        )
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
            self.assertTrue(self.pretrain(**flags, init_weights=file, dry_run=True).is_dry_run)
            self.assertEqual(self.pretrain(**flags, init_weights=file).steps, 2)
        with self.assertRaisesRegex(ValueError, f"init_weights was {file}, is None"):
            self.pretrain(**flags | {"epochs": 2})

    def test_weights_of_another_network_are_refused(self):
        file = self.folder / "first" / "backbone.keras"
        export_backbone(backbones.build("resnet10_v1_5"), "resnet10_v1_5", file.parent)
        for weights, error in (
            (file, "--init_weights=.* --backbone=resnet18_v1_5: .*backbone.keras is resnet10_v1_5"),
            ("imagenet", "--backbone=resnet18_v1_5: .* no ImageNet weights of resnet18_v1_5"),
            ("nowhere", "--init_weights=nowhere --backbone=resnet18_v1_5: "),
        ):
            with self.assertRaisesRegex(ValueError, error):
                self.pretrain(backbone="resnet18_v1_5", init_weights=weights)
        self.assertFalse((self.folder / "run").exists())

    def test_random_numbers_go_on_as_they_were(self):
        random.seed(7)
        np.random.seed(7)
        expected = random.Random(7).random(), np.random.RandomState(7).rand()
        with self.assertRaisesRegex(ValueError, "--batch_size=9: "):
            self.pretrain(batch_size=9)
        self.assertEqual((random.random(), np.random.rand()), expected)

    def test_a_preset_may_be_a_path_object(self):
        preset = self.folder / "mine.cfg"
        preset.write_text("--batch_size=9\n")
        with self.assertRaisesRegex(ValueError, "--batch_size=9: "):
            pixpro_keras.pretrain(self.photos, self.folder / "run", preset=preset)

    def test_only_the_chief_needs_the_images_of_evaluations(self):
        flags = {"eval_every_epochs": 1}
        flags |= dict.fromkeys(["eval_train_dataset", "eval_test_dataset"], "folder:/nowhere")
        with self.assertRaisesRegex(ValueError, "--eval_train_dataset=folder:/nowhere"):
            self.pretrain(**flags)
        with (
            mock.patch("pixpro_keras.cli.pretrain.is_chief", return_value=False),
            mock.patch.object(opened_run, "open_checkpoints", side_effect=EOFError),
            self.assertRaises(EOFError),  # It got as far.
        ):
            self.pretrain(**flags)

    def test_small_images_that_a_network_does_not_take(self):
        with self.assertRaisesRegex(ValueError, "^--local_image_size=48: xception takes 71 px or"):
            self.pretrain(backbone="xception", image_size=96, local_views=2)
        puzzle = {"method": "infomin", "augmentation": "infomin", "queue_size": 8}
        with self.assertRaisesRegex(
            ValueError, "^--method=infomin .* 64 px, and xception takes 71"
        ):
            self.pretrain(backbone="xception", image_size=224, **puzzle)

    def test_the_folder_of_the_images_is_no_workdir(self):
        before = sorted(self.photos.iterdir())
        for workdir in (self.photos, f"{self.photos}/../photos/"):
            with self.assertRaisesRegex(ValueError, "^--workdir=.*: holds the images of --dataset"):
                self.pretrain(workdir=workdir)
        self.assertEqual(sorted(self.photos.iterdir()), before)

    def test_flags_that_contradict_a_data_service(self):
        for flag, value in (("deterministic", True), ("image_cache_share", 0.5)):
            with self.assertRaisesRegex(ValueError, f"^--{flag}.*: .*--data_service"):
                self.pretrain(data_service="localhost:1", **{flag: value})

    def test_a_failed_start_leaves_nothing(self):
        for options in ({"batch_size": 9}, {"eval_every_epochs": 1}):
            with self.assertRaises(ValueError):
                self.pretrain(**options)
            self.assertEqual([path.name for path in self.folder.iterdir()], ["photos"])

    @pytest.mark.slow
    def test_a_failure_before_the_first_line_of_the_log_leaves_nothing(self):
        for index in range(1, 8):  # the first one is looked at before the start
            (self.photos / f"{index}.jpg").write_bytes(b"no image")
        with self.assertRaisesRegex(RuntimeError, "of the 8 images of .* cannot be decoded"):
            self.pretrain(epochs=1)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["photos"])

    def test_an_export_of_no_pretraining_names_the_folder(self):
        run = self.folder / "knn"
        run.mkdir()
        (run / "flags.cfg").write_text("--k=3\n")
        for flag in ("input", "workdir"):
            options = export.ExportOptions.make(**{flag: str(run)})
            with self.assertRaisesRegex(
                ValueError, f"--{flag}={run}: no checkpoints there, so it is not"
            ):
                export.run(options)

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
