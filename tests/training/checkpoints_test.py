import os
import pathlib
import resource
from typing import ClassVar
from unittest import mock

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.optimizers import LARS
from pixpro_keras.task import Task
from pixpro_keras.training.callbacks import SaveCheckpoints
from pixpro_keras.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    SaveError,
    checkpoint_steps,
    latest_checkpoint,
    load_weights,
)
from tests.helpers.steps import build
from tests.helpers.tiny_runs import run


def truncate(file):
    with open(file, "r+b") as stream:
        stream.truncate(os.path.getsize(file) // 2)


def flip_a_byte(file):
    content = bytearray(pathlib.Path(file).read_bytes())
    content[len(content) // 2] ^= 0x40
    pathlib.Path(file).write_bytes(content)


class Dropping(Task):
    """A line whose inputs are dropped at random."""

    loss_bounds: ClassVar = {"square": (0.0, None)}

    def __init__(self):
        super().__init__()
        self.slope = self.add_weight(name="slope", shape=(8,), initializer="ones")
        self.dropout = keras.layers.Dropout(0.5)

    def call(self, batch, training=False):
        dropped = self.dropout(self.slope * batch["x"], training=training)
        return {"square": keras.ops.mean((dropped - 3.0) ** 2)}


class CheckpointsTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_keeps_the_last_few(self):
        model = build()
        folder = self.create_tempdir().full_path
        checkpoints = Checkpoints(folder, model, {}, keep=2)
        run(model, [SaveCheckpoints(checkpoints, 3)])
        self.assertEqual(checkpoint_steps(folder), [12, 9])
        self.assertEqual(tf.train.latest_checkpoint(folder), f"{folder}/ckpt-12")

    def test_another_model_is_refused_by_name(self):
        folder = self.create_tempdir().full_path
        model = build()
        Checkpoints(folder, model, {"backbone": "resnet50", "method": "pixpro"}).save()
        with self.assertRaisesRegex(CheckpointError, "backbone was resnet50, is resnet18"):
            Checkpoints(folder, build(), {"backbone": "resnet18", "method": "pixpro"}).restore()

    def test_a_property_of_one_of_both_is_another_model(self):
        folder = self.create_tempdir().full_path
        Checkpoints(folder, build(), {"method": "pixpro"}).save()
        added = {"method": "pixpro", "pixel_levels": ["c4"]}
        with self.assertRaisesRegex(CheckpointError, r"pixel_levels was absent, is \['c4'\]"):
            Checkpoints(folder, build(), added).restore()

    def test_a_tuple_is_the_list_that_is_read(self):
        folder = self.create_tempdir().full_path
        Checkpoints(folder, build(), {"levels": ("c4", "c5")}).save()
        self.assertEqual(Checkpoints(folder, build(), {"levels": ("c4", "c5")}).restore(), 0)

    def test_another_shape_is_refused(self):
        folder = self.create_tempdir().full_path
        Checkpoints(folder, build(), {}).save()
        with self.assertRaisesRegex(CheckpointError, r"linear2/kernel.*\(1, 1, 32, 8\) there"):
            Checkpoints(folder, build(out_dim=12), {}).restore()

    def test_missing_parts_are_refused(self):
        folder = self.create_tempdir().full_path
        Checkpoints(folder, build(use_propagation=False), {}).save()
        with self.assertRaisesRegex(CheckpointError, "41 variables of the weights"):
            Checkpoints(folder, build(), {}).restore()

    def test_dropout_goes_on_as_without_the_break(self):
        def start(folder):
            keras.utils.set_random_seed(0)
            task = Dropping()
            task.compile(keras.optimizers.SGD(0.1), jit_compile=False)
            task.optimizer.build(task.trainable_variables)
            checkpoints = Checkpoints(folder, task, {})
            checkpoints.restore()
            return task, checkpoints

        def train(task, steps):
            for _ in range(steps):
                task.train_step({"x": tf.ones((2, 8))})

        whole, _ = start(self.create_tempdir().full_path)
        train(whole, 4)
        folder = self.create_tempdir().full_path
        first, checkpoints = start(folder)
        train(first, 2)
        checkpoints.save()
        rest, _ = start(folder)
        train(rest, 2)
        self.assertAllEqual(rest.slope, whole.slope)

    def test_dropout_starts_anew_with_a_checkpoint_of_an_old_version(self):
        folder = self.create_tempdir().full_path
        task = Dropping()
        task.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        task.optimizer.build(task.trainable_variables)
        task.step.assign(8)
        with mock.patch.object(Dropping, "seeds", []):
            Checkpoints(folder, task, {}).save()
        self.assertEqual(Checkpoints(folder, task, {}).restore(), 8)

    def test_a_run_may_go_on_in_another_precision(self):
        folder = self.create_tempdir().full_path

        def scaled():
            return build(optimizer=keras.mixed_precision.LossScaleOptimizer(LARS(0.5)))

        def check(model, optimizer, value):
            Checkpoints(folder, model, {}).restore()
            for variable in (model.trainable_variables[0], optimizer.variables[-1]):
                self.assertAllEqual(variable, tf.fill(variable.shape, value))
            variable.assign(tf.fill(variable.shape, value + 1))
            model.trainable_variables[0].assign(
                tf.fill(model.trainable_variables[0].shape, value + 1)
            )
            model.step.assign_add(1)

        plain = build()
        for variable in (plain.trainable_variables[0], plain.optimizer.variables[-1]):
            variable.assign(tf.fill(variable.shape, 1.0))
        Checkpoints(folder, plain, {}).save()
        half = scaled()
        half.optimizer.dynamic_scale.assign(64.0)
        check(half, half.optimizer.inner_optimizer, 1.0)
        self.assertEqual(half.optimizer.dynamic_scale, 64.0)
        path = Checkpoints(folder, half, {}).save()
        again = scaled()
        check(again, again.optimizer.inner_optimizer, 2.0)
        self.assertEqual(again.optimizer.dynamic_scale, 64.0)
        check(plain, plain.optimizer, 2.0)
        other = build()
        load_weights(other, path, optimizer=True)
        self.assertAllEqual(other.optimizer.variables[-1], plain.optimizer.variables[-1] - 1)

    def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused_before_the_training(self):
        for name in ("run[1]", "run\\x"):
            folder = self.create_tempdir().full_path + f"/{name}"
            with self.assertRaisesRegex(CheckpointError, "need a path without"):
                Checkpoints(folder, build(), {})
            self.assertFalse(os.path.exists(folder))
            with self.assertRaisesRegex(CheckpointError, "need a path without"):
                load_weights(build(), f"{folder}/ckpt-8")
        # Other special characters are read as they are.
        folder = self.create_tempdir().full_path + "/a run*{1,2}?"
        task = build()
        task.step.assign(8)
        Checkpoints(folder, task, {}).save()
        self.assertEqual(Checkpoints(folder, build(), {}).restore(), 8)

    def test_nothing_there_starts_at_zero(self):
        self.assertEqual(Checkpoints(self.create_tempdir().full_path, build(), {}).restore(), 0)


class FaultsTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = build()

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.checkpoints = Checkpoints(self.folder, self.model, {"model": "tiny"})
        self.weight = self.model.trainable_variables[0]
        for step in (4, 8):
            self.save(step)
        self.model.step.assign(0)
        self.weight.assign(tf.zeros_like(self.weight))

    def save(self, step):
        self.model.step.assign(step)
        self.weight.assign(tf.fill(self.weight.shape, float(step)))
        return self.checkpoints.save()

    @parameterized.product(
        part=("data-00000-of-00001", "index", "sha256"),
        damage=(truncate, flip_a_byte, os.unlink),
        with_manifest=(True, False),
    )
    def test_falls_back_to_the_one_before(self, part, damage, with_manifest):
        damage(self.folder / f"ckpt-8.{part}")
        if not with_manifest:  # as those of earlier versions: TensorFlow's own checksums are left
            for file in self.folder.glob("*.sha256"):
                file.unlink()
        if part == "sha256" and (damage is os.unlink or not with_manifest):
            self.assertEqual(self.checkpoints.restore(), 8)
            return
        with self.assertLogs("absl", "WARNING") as logs:
            self.assertEqual(self.checkpoints.restore(), 4)
        self.assertRegex(logs.output[0], r"Skipped: .*ckpt-8")
        self.assertAllEqual(self.weight, tf.fill(self.weight.shape, 4.0))
        with self.assertRaisesRegex(CheckpointError, "ckpt-8"):
            load_weights(self.model, str(self.folder / "ckpt-8"))
        # The next one is saved over it, or deletes it.
        self.save(6)
        self.assertEqual(checkpoint_steps(self.folder), [6, 4])

    def test_the_newest_has_an_index(self):
        (self.folder / "ckpt-8.index").unlink()  # as of a run that was killed while it saved
        self.assertEqual(latest_checkpoint(self.folder), str(self.folder / "ckpt-4"))
        (self.folder / "ckpt-4.index").unlink()
        self.assertIsNone(latest_checkpoint(self.folder))

    def test_none_is_whole(self):
        for file in self.folder.glob("*.index"):
            file.write_bytes(b"")
        with self.assertRaisesRegex(CheckpointError, "none of the 2 checkpoints.*ckpt-8.*ckpt-4"):
            self.checkpoints.restore()

    @parameterized.parameters("{", "[]", "7", "\xff")
    def test_a_damaged_identity(self, text):
        (self.folder / "model.json").write_text(text)
        with self.assertRaisesRegex(CheckpointError, "model.json"):
            self.checkpoints.restore()

    @parameterized.parameters(0, 1000, 40_000)
    def test_a_disk_that_takes_no_more(self, size):
        """The limit of a file's size stands for a full disk: it takes root's writes away too."""
        before = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))
        try:
            with self.assertRaisesRegex(
                SaveError, "^the checkpoint of step 12 cannot be written: [^{]"
            ):
                self.save(12)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        after = {file.name: file.read_bytes() for file in self.folder.iterdir()}
        self.assertEqual(after, before)
        self.assertEqual(self.checkpoints.restore(), 8)
        self.save(12)
        self.assertEqual(checkpoint_steps(self.folder), [12, 8, 4])

    def test_a_disk_without_space_for_one_checkpoint(self):
        data = next(self.folder.glob("ckpt-8.data-*")).stat().st_size
        checkpoints = Checkpoints(self.folder / "new" / "checkpoints", self.checkpoints._task, {})
        with mock.patch("shutil.disk_usage") as usage:
            # The file also holds names and checksums.
            usage.return_value = mock.Mock(total=10 * data, free=data // 2)
            with self.assertRaisesRegex(
                SaveError, "new: the disk has 0 MiB left, and a checkpoint"
            ):
                checkpoints.check_space()
            usage.return_value = mock.Mock(total=10 * data, free=3 * data)
            with self.assertLogs("absl", "WARNING") as log:
                checkpoints.check_space()
            self.assertIn("4 checkpoints of 0 MiB are still to be written", log.output[0])
            usage.return_value = mock.Mock(total=10 * data, free=4 * data)
            with self.assertNoLogs("absl", "WARNING"):
                checkpoints.check_space()
            usage.return_value = mock.Mock(total=0, free=0)  # a network disk that does not tell
            checkpoints.check_space()

    def test_halves_are_cleared_away(self):
        half = self.folder / "ckpt-9_temp"
        half.mkdir()
        (half / "part-00000-of-00001.data-00000-of-00001").write_bytes(b"half")
        (self.folder / "ckpt-10.data-00000-of-00001").write_bytes(b"no index")
        self.assertEqual(self.checkpoints.restore(), 8)
        self.save(12)
        self.assertFalse(half.exists())
        self.assertEqual(checkpoint_steps(self.folder), [12, 8, 4])


if __name__ == "__main__":
    tf.test.main()
