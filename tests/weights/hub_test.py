import inspect
import pathlib
import shutil

import huggingface_hub
import numpy as np
import pytest
import tensorflow as tf
from huggingface_hub.utils import filter_repo_objects

from pixpro_keras import backbones, load_backbone
from pixpro_keras.utils.checksums import SUMS_FILE, check_files
from pixpro_keras.weights import export_backbone, hub, write_card
from tests.helpers.jobs import run_job


class LocalHub:
    """Takes the calls of `HfApi` and keeps repositories as folders."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.private = {}

    def create_repo(self, *args, **kwargs):
        call = inspect.signature(huggingface_hub.HfApi.create_repo).bind(self, *args, **kwargs)
        repo = call.arguments["repo_id"]
        self.private[repo] = call.arguments["private"]
        (self.root / repo).mkdir(parents=True, exist_ok=call.arguments["exist_ok"])
        return f"address of {repo}"

    def upload_folder(self, **kwargs):
        inspect.signature(huggingface_hub.HfApi.upload_folder).bind(self, **kwargs)
        folder = pathlib.Path(kwargs["folder_path"])
        names = (f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())
        for name in filter_repo_objects(names, allow_patterns=kwargs["allow_patterns"]):
            target = self.root / kwargs["repo_id"] / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, target)


class HubTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exported = pathlib.Path(cls.create_tempdir(cls()).full_path)
        cls.network = backbones.build("mobilenetv3small")
        export_backbone(cls.network, "mobilenetv3small", cls.exported)
        write_card(cls.exported, "mobilenetv3small", title="mine", facts={"Data": "a | b"})

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        self.export = self.folder / "run" / "export"
        shutil.copytree(self.exported, self.export)
        self.files = ["README.md", SUMS_FILE, "backbone.keras", "backbone.weights.h5"]

    def test_there_and_back(self):
        (self.export / "notes.txt").write_text("not for others")
        local = LocalHub(self.folder / "hub")
        for _ in range(2):  # the second time the repository is there
            address = hub.upload(self.export, "me/mine", is_private=True, api=local)
        self.assertEqual(address, "address of me/mine")
        self.assertTrue(local.private["me/mine"])
        there = self.folder / "hub" / "me" / "mine"
        self.assertEqual(sorted(path.name for path in there.iterdir()), self.files)
        check_files(there / SUMS_FILE)
        loaded = load_backbone(there)
        images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
        self.assertAllEqual(loaded(images), self.network(images))

    def test_patterns_are_names(self):
        names = ["a[1].txt", "a1.txt", "b*.txt", "bc.txt", "d?", "de"]
        for name in names:
            found = filter_repo_objects(names, allow_patterns=[hub._escape(name)])
            self.assertEqual(list(found), [name])

    def test_only_whole_exports(self):
        with self.assertRaisesRegex(ValueError, "no README.md there, so it is not an export"):
            hub.files_to_upload(self.folder)
        (self.export / "backbone.keras").write_bytes(b"cut off")
        with self.assertRaisesRegex(ValueError, "backbone.keras is damaged, or was changed"):
            hub.upload(self.export, "me/mine", api=LocalHub(self.folder))

    @pytest.mark.slow
    def test_the_command_without_a_network(self):
        flags = ("--repo=me/mine", f"--input={self.folder / 'run'}")
        result = run_job("upload.py", *flags, "--dry_run", "--private")
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertIn("To me/mine (private, if it is new)", result.stdout)
        for name in self.files:
            self.assertIn(f"bytes  {name}\n", result.stdout)
        self.assertIn("Nothing was sent.", result.stdout)
        for bad, named in (
            (("--repo=mine",), "--repo=mine"),
            (("--repo=me/mine", f"--input={self.folder}"), f"--input={self.folder}"),
        ):
            result = run_job("upload.py", *bad)
            self.assertEqual(result.returncode, 1)
            self.assertIn(named, result.stderr)
            self.assertNotIn("Traceback", result.stderr)


if __name__ == "__main__":
    tf.test.main()
