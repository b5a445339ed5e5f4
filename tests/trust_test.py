"""Untrusted files: damaged ones are refused, and none runs code or writes outside its folder."""

import os
import pathlib
import pickle
import subprocess
import zipfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import pixpro_keras
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.utils.checksums import (
    SUMS_FILE,
    ManifestError,
    check_files,
    listing,
    read_manifest,
)
from pixpro_keras.weights import load_fpn


class _Touch:
    """Object that creates a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


class MaliciousFilesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.proof = self.folder / "code_was_run"

    def assert_refused(self, name, message):
        with self.assertRaisesRegex(ValueError, message):
            pixpro_keras.load_backbone(self.folder / name)
        self.assertFalse(self.proof.exists())

    def test_the_attack_works_where_nothing_is_refused(self):
        pickle.loads(pickle.dumps(_Touch(self.proof)))
        self.assertTrue(self.proof.exists())

    @parameterized.parameters(
        {"attack": lambda touch: touch},
        {"attack": lambda touch: {"model": {"res2.0.conv1.weight": touch}}},
        {"attack": lambda touch: {"model": {"stem.conv1.weight": np.array([touch], object)}}},
    )
    def test_detectron2_files(self, attack):
        content = pickle.dumps(attack(_Touch(self.proof)))
        (self.folder / "a.pkl").write_bytes(content)
        self.assert_refused("a.pkl", "the file imports")

    @parameterized.parameters("a.pth", "a.pt", "a.tar", "a.bin", "a.ckpt")
    def test_torch_files(self, name):
        try:
            import torch
        except ImportError:
            self.skipTest("needs torch")
        torch.save({"state_dict": {"conv1.weight": _Touch(self.proof)}}, self.folder / name)
        self.assert_refused(name, "could run code")

    def test_torch_files_of_old(self):
        try:
            import torch
        except ImportError:
            self.skipTest("needs torch")
        torch.save(_Touch(self.proof), self.folder / "a.pth", _use_new_zipfile_serialization=False)
        self.assert_refused("a.pth", "could run code")

    def test_keras_files(self):
        proof = str(self.proof)
        inputs = keras.Input((4,))
        outputs = keras.layers.Lambda(
            lambda x: (__import__("pathlib").Path(proof).touch(), x)[1], output_shape=(4,)
        )(inputs)
        network = keras.Model(inputs, outputs)
        self.proof.unlink(missing_ok=True)  # building it may run it
        network.save(self.folder / "a.keras")
        self.assert_refused("a.keras", r"cannot be read \(.*`Lambda` layer .*code execution")
        with zipfile.ZipFile(self.folder / "a.keras") as file:
            self.assertIn(b"__lambda__", file.read("config.json"))

    def test_archives_of_an_fpn(self):
        fpn = FPN(8)
        fpn({f"c{i}": tf.zeros((1, 2 ** (7 - i), 2 ** (7 - i), 4)) for i in range(2, 6)})
        np.savez(self.folder / "fpn.npz", lateral2=np.array([_Touch(self.proof)], object))
        with self.assertRaises(ValueError):
            load_fpn(fpn, self.folder / "fpn.npz")
        self.assertFalse(self.proof.exists())


class ManifestTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def write(self, name, content):
        path = self.folder / name
        with listing(path):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        return path

    def test_files_and_folders(self):
        self.write("a b \u00e9.npz", b"one")
        served = self.folder / "saved_model"
        with listing(served):
            (served / "variables").mkdir(parents=True)
            (served / "variables" / "index").write_bytes(b"two")
        subprocess.run(
            ["sha256sum", "--check", "--strict", SUMS_FILE],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )
        self.assertEqual(
            set(read_manifest(self.folder / SUMS_FILE)),
            {"a b \u00e9.npz", "saved_model/variables/index"},
        )
        self.write("a b \u00e9.npz", b"three")
        check_files(self.folder / SUMS_FILE)
        (served / "variables" / "index").unlink()
        with self.assertRaisesRegex(ManifestError, "variables/index cannot be read"):
            check_files(self.folder / SUMS_FILE)

    def test_a_damaged_manifest_does_not_keep_from_writing(self):
        self.write("a.keras", b"old")
        (self.folder / SUMS_FILE).write_text("damaged\n")
        self.write("a.keras", b"new")
        check_files(self.folder / SUMS_FILE, ["a.keras"])
        self.assertEqual(set(read_manifest(self.folder / SUMS_FILE)), {"a.keras"})

    def test_a_writer_that_fails(self):
        path = self.write("a.keras", b"old")
        with self.assertRaisesRegex(OSError, "full"), listing(path):
            self.assertEqual(read_manifest(self.folder / SUMS_FILE), {})
            raise OSError("full")
        check_files(self.folder / SUMS_FILE)

    def test_files_of_another_origin_are_not_listed_any_more(self):
        manifest, origins = self.folder / SUMS_FILE, ("0" * 64, "1" * 64)
        for name, origin in (("a.keras", 0), ("b.npz", None), ("c.pth", 0)):
            with listing(self.folder / name, None if origin is None else origins[origin]):
                (self.folder / name).write_bytes(b"one")
        self.assertEqual(set(read_manifest(manifest)), {"a.keras", "b.npz", "c.pth"})
        before = manifest.read_bytes()
        with self.assertRaisesRegex(OSError, "full"), listing(self.folder / "a.keras", origins[1]):
            raise OSError("full")
        self.assertEqual(manifest.read_bytes(), before)
        with listing(self.folder / "a.keras", origins[1]):
            self.assertEqual(set(read_manifest(manifest)), {"b.npz", "c.pth"})
        self.assertEqual(set(read_manifest(manifest)), {"a.keras"})
        self.assertTrue((self.folder / "c.pth").exists())
        subprocess.run(
            ["sha256sum", "--check", "--strict", SUMS_FILE],
            cwd=self.folder,
            check=True,
            capture_output=True,
        )

    def test_changed_weights_are_refused_before_they_are_read(self):
        for name in ("backbone.keras", "a.weights.h5", "a.pth", "a.pkl"):
            path = self.write(name, b"as exported")
            path.write_bytes(b"as changed")
            with self.assertRaisesRegex(ManifestError, f"{name} is damaged, or was changed"):
                pixpro_keras.load_backbone(path)
        path = self.write("fpn.npz", b"as exported")
        path.write_bytes(b"as changed")
        with self.assertRaisesRegex(ManifestError, "fpn.npz is damaged"):
            load_fpn(None, path)

    @parameterized.parameters("../a", "/etc/passwd", "a/../../b", "..")
    def test_names_elsewhere(self, name):
        (self.folder / SUMS_FILE).write_text(f"{'0' * 64}  {name}\n")
        with self.assertRaisesRegex(ManifestError, "not below its folder"):
            read_manifest(self.folder / SUMS_FILE)


if __name__ == "__main__":
    tf.test.main()
