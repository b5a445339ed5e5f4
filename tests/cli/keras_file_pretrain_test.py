import contextlib
import io
import pathlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras.cli import pretrain
from pixpro_keras.cli.shared import opened_run, stored_run
from pixpro_keras.training import open_workdir
from tests.helpers.jobs import write_photos
from tests.helpers.keras_hub_networks import make_backbone
from tests.helpers.random_weights import randomize
from tests.helpers.tables import unpadded
from tests.helpers.tiny_networks import tiny_backbone

IMAGES = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
SHORT = {
    "projector_hidden_dim": 16,
    "projector_dim": 8,
    "image_size": 64,
    "batch_size": 4,
    "epochs": 1,
    "warmup_epochs": 0,
    "log_every_steps": 1,
    "picture_every_steps": 0,
    "method": "byol",
}
NO_STEP = {"optimizer": "sgd", "base_learning_rate": 1e-30, "end_learning_rate": 0}


class KerasFilePretrainTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.photos = write_photos(self.folder / "photos")

    def pretrain(self, **options):
        with contextlib.redirect_stdout(io.StringIO()):
            workdir = options.pop("workdir", self.folder / "run")
            return pixpro_keras.pretrain(self.photos, workdir, **SHORT | options)

    @pytest.mark.slow
    def test_an_instance_has_the_trained_weights_and_goes_on(self):
        backbone = make_backbone("resnet")
        before = [np.asarray(x) for x in backbone.get_weights()]
        result = self.pretrain(backbone=backbone)
        self.assertNotAllClose(backbone.get_weights()[0], before[0])
        exported = pixpro_keras.load_backbone(self.folder / "run")
        self.assertIs(type(exported), type(backbone))
        self.assertAllEqual(exported(IMAGES, training=False), backbone(IMAGES, training=False))
        self.assertAllEqual(
            result.backbone(IMAGES, training=False), exported(IMAGES, training=False)
        )
        # Its file has the weights from before; the run goes on with the same call.
        initial = keras.saving.load_model(self.folder / "run" / pretrain.INITIAL_FILE)
        self.assertAllEqual(initial.get_weights()[0], before[0])
        self.assertEqual(self.pretrain(backbone=backbone, epochs=2).steps, 4)
        with self.assertRaisesRegex(
            ValueError, "--workdir=.*run: the run there has another backbone"
        ):
            self.pretrain(backbone=make_backbone("densenet"), epochs=2)
        card = unpadded((self.folder / "run" / "export" / "README.md").read_text())
        self.assertIn("| Backbone | `initial_backbone.keras` |", card)
        self.assertIn("import keras_hub; keras.saving.load_model('backbone.keras')", card)
        self.assertNotIn(str(self.folder), card)
        # Other commands know it by its file.
        embeddings = pixpro_keras.embed(self.photos, self.folder / "run", image_size=64)
        self.assertEqual(embeddings.vectors.shape, (8, 32))
        # A run that was moved is still itself.
        moved = (self.folder / "run").rename(self.folder / "moved")
        self.assertEqual(
            stored_run.read_options(moved).backbone, str(moved / pretrain.INITIAL_FILE)
        )
        goes_on = {"backbone": backbone, "epochs": 2, "workdir": moved}
        self.assertEqual(self.pretrain(**goes_on, dry_run=True).steps, 0)
        self.assertEqual(self.pretrain(**goes_on).steps, 4)

    def test_a_failed_start_leaves_nothing(self):
        backbone = tiny_backbone()
        for options, message in (
            ({"batch_size": 9}, "--batch_size=9: .* has only 8 images"),
            ({"batch_size": 9, "dry_run": True}, "--batch_size=9: .* has only 8 images"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                self.pretrain(backbone=backbone, **options)
            self.assertFalse((self.folder / "run").exists())
        with (
            open_workdir(self.folder / "run"),
            self.assertRaisesRegex(ValueError, "--workdir=.*run: a run is going on there"),
        ):
            self.pretrain(backbone=backbone)
        self.assertFalse((self.folder / "run" / pretrain.INITIAL_FILE).exists())

    def test_a_moved_run_takes_the_network_in_its_folder(self):
        (self.folder / "run").mkdir()
        tiny_backbone().save(self.folder / "run" / pretrain.INITIAL_FILE)
        stop = mock.patch.object(opened_run, "open_checkpoints", side_effect=EOFError)
        with stop as opened, self.assertRaises(EOFError):
            self.pretrain(backbone=f"moved/away/{pretrain.INITIAL_FILE}")
        self.assertEqual(
            opened.call_args.args[0].backbone, str(self.folder / "run" / pretrain.INITIAL_FILE)
        )
        with self.assertRaisesRegex(ValueError, "^--backbone=away/mine.keras: away/mine.keras: No"):
            self.pretrain(backbone="away/mine.keras")

    def test_a_second_call_begins_with_the_same_weights(self):
        tiny_backbone().save(self.folder / "mine.keras")
        begins = []

        def stop(options, config, strategy, method, *_):
            begins.append(method.get_weights())
            raise EOFError

        for _ in range(2):
            with (
                mock.patch.object(opened_run, "open_checkpoints", stop),
                self.assertRaises(EOFError),
            ):
                self.pretrain(backbone=self.folder / "mine.keras")
        for one, two in zip(*begins, strict=True):
            self.assertAllEqual(one, two)

    @pytest.mark.slow
    def test_a_file_is_trained_from_its_weights(self):
        network = randomize(tiny_backbone())
        network.save(self.folder / "mine.keras")
        with self.assertLogs("absl", "INFO") as logs:
            result = self.pretrain(backbone=self.folder / "mine.keras", **NO_STEP)
        log = " ".join(logs.output)
        self.assertIn(f"starts from the weights of {self.folder / 'mine.keras'}", log)
        self.assertIn("mine.keras: RGB in 0..1, then (x - mean) / std", log)
        self.assertAllClose(result.backbone.get_layer("conv0").kernel, network.layers[1].kernel)

    @pytest.mark.slow
    def test_images_of_one_size(self):
        inputs = keras.Input((64, 64, 3))
        network = keras.Model(inputs, tiny_backbone()(inputs))
        self.pretrain(backbone=network, picture_every_steps=2)
        self.assertTrue((self.folder / "run" / "pictures").exists())
        for options, message in (
            ({"image_size": 96}, "--image_size=96: .* takes images of 64 px only"),
            ({"local_views": 2, "method": "pixpro"}, "--local_views=2: .* takes 64 px only"),
            ({"probe": "scenes"}, "--probe=scenes: .* takes 64 px only"),
            (
                {"method": "infomin", "augmentation": "infomin", "queue_size": 8},
                "--method=infomin: .* takes 64 px only",
            ),
        ):
            with self.assertRaisesRegex(ValueError, message):
                self.pretrain(backbone=self.folder / "run/export/backbone.keras", **options)

    def test_models_that_are_no_backbones(self):
        inputs = keras.Input((None, None, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))

        class Subclassed(keras.Model):
            pass

        for model, fault in (
            (
                keras.Model(inputs, pooled, name="mine"),
                r"mine is no backbone: .*\(None, 4\), of a classif",
            ),
            (
                Subclassed(name="mine"),
                "mine is no backbone: it is a Subclassed that is not functional",
            ),
            (
                keras.Model([inputs], keras.layers.Conv2D(4, 3)(inputs), name="mine"),
                "mine is no backbone: its inputs are a list of one tensor",
            ),
            (
                keras.Sequential([inputs, keras.layers.Conv2D(4, 3)], name="mine"),
                r"mine is no backbone: it is a Sequential.* keras.Model\(network.inputs\[0\]",
            ),
        ):
            way_out = r" `backbone` must be a functional Keras model .*\(B, h, w, C\)"
            for train in (
                lambda model=model: self.pretrain(backbone=model),
                lambda model=model: pixpro_keras.PixPro(model, total_steps=1),
            ):
                with self.assertRaisesRegex(ValueError, fault + ".*" + way_out):
                    train()
        self.assertFalse((self.folder / "run").exists())
        keras.Model(inputs, pooled, name="mine").save(self.folder / "mine.keras")
        flags = [f"--dataset=folder:{self.photos}", f"--workdir={self.folder / 'run'}"]
        flags += [f"--backbone={self.folder / 'mine.keras'}"]
        with self.assertRaisesRegex(
            ValueError, "--backbone=.*mine.keras: .*mine is no backbone: its output has the shape"
        ):
            pretrain.run(pretrain.parsing.parse(pretrain.PretrainOptions, flags)[0])
        self.assertFalse((self.folder / "run").exists())


if __name__ == "__main__":
    tf.test.main()
