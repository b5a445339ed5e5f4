"""Conversion of published files to ours and back, by commands."""

import argparse
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.helpers import torch_networks
from tests.helpers.files import read_metrics
from tests.helpers.jobs import TINY_RUN, run_job, write_photos
from tests.helpers.tables import unpadded


def release_file(path):
    """A published checkpoint's content with the options of a run of 4 epochs of 2 steps."""
    torch = torch_networks.import_torch()
    model = torch_networks.official_pixpro()
    options = argparse.Namespace(
        arch="resnet10",
        epochs=4,
        warmup_epoch=1,
        base_learning_rate=0.8,
        weight_decay=1e-4,
        momentum=0.8,
        image_size=32,
        pixpro_p=1.5,
        pixpro_pos_ratio=0.6,
        pixpro_momentum=0.95,
        pixpro_clamp_value=0.0,
    )
    group = {"lr": 0.1, "initial_lr": 0.8 * 4 / 256, "params": []}
    content = {
        "opt": options,
        "model": {f"module.{name}": value for name, value in model.state_dict().items()},
        "optimizer": {"state": {}, "param_groups": [group]},
        "scheduler": {"last_epoch": 4},
        "epoch": 2,
    }
    torch.save(content, path)
    return content, model


@pytest.mark.slow
class ConvertTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        torch_networks.import_torch()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def succeed(self, script, *flags):
        result = run_job(script, *flags)
        self.assertEqual(result.returncode, 0, msg=result.stdout + result.stderr)
        return result

    def test_release_there_trained_and_back(self):
        content, model = release_file(self.folder / "ckpt.pth")
        converted = self.folder / "converted"
        self.succeed("convert.py", f"--input={self.folder / 'ckpt.pth'}", f"--output={converted}")
        card = unpadded((converted / "README.md").read_text())
        for fact in ("ckpt.pth", "SHA-256", "resnet10_v1_5", "| Epochs | 2 |", "RGB in 0..1"):
            self.assertIn(fact, card)
        flags = (converted / "flags.cfg").read_text().splitlines()
        for flag in (
            "--gamma=1.5",
            "--threshold=0.6",
            "--base_momentum=0.95",
            "--epochs=4",
            "--steps_per_epoch=2",
            "--batch_size=4",
            "--sgd_momentum=0.8",
            "--projector_dim=16",
        ):
            self.assertIn(flag, flags)
        images = np.random.default_rng(0).standard_normal((1, 64, 64, 3)).astype("float32")
        expected = torch_networks.features(model.encoder, images)
        backbone = keras.saving.load_model(converted / "backbone.keras")
        self.assertAllClose(
            backbone(images, training=False), expected, atol=1e-5 * np.abs(expected).max(), rtol=0
        )

        # Straight back: the same tensors, and nothing beside them.
        self.succeed("export.py", f"--input={converted}", "--format=torch")
        torch = torch_networks.import_torch()
        back = torch.load(converted / "export" / "release.pth", weights_only=False)
        self.assertEqual(back["epoch"], 2)
        self.assertEqual(list(back["model"]), list(content["model"]))
        for name, tensor in content["model"].items():
            if not name.endswith("num_batches_tracked"):
                self.assertTrue(torch.equal(back["model"][name], tensor), name)

        # And on from there: epochs 3 and 4.
        photos = write_photos(self.folder / "photos")
        self.succeed(
            "pretrain.py",
            f"--flagfile={converted / 'flags.cfg'}",
            f"--dataset=folder:{photos}",
            "--picture_every_steps=0",
            "--log_every_steps=1",
        )
        lines = read_metrics(converted)
        self.assertEqual([line["step"] for line in lines], [5, 6, 7, 8])
        self.assertTrue(np.isfinite(lines[-1]["loss"]))

    def test_backbone_of_another_method(self):
        torch = torch_networks.import_torch()
        model = torch_networks.randomize(torch_networks.resnet())
        state = {f"module.encoder_q.{k}": v for k, v in model.state_dict().items()}
        torch.save({"state_dict": state}, self.folder / "moco.pth.tar")
        output = self.folder / "moco"
        flags = (f"--input={self.folder / 'moco.pth.tar'}", "--format=keras,torchvision")
        self.succeed("convert.py", *flags, f"--output={output}")
        self.assertEqual(
            sorted(path.name for path in output.iterdir()),
            ["README.md", "SHA256SUMS", "backbone.keras", "torchvision.pth"],
        )
        plain = torch.load(output / "torchvision.pth")
        self.assertEqual(set(plain), set(model.state_dict()))
        self.assertIn("`module.encoder_q.`", (output / "README.md").read_text())

    def test_export_of_a_run_to_every_format(self):
        pytest.importorskip("tf2onnx", reason="needs pip install 'pixpro-keras[onnx]'")
        run = self.folder / "run"
        photos = write_photos(self.folder / "photos")
        self.succeed(
            "pretrain.py",
            *TINY_RUN,
            f"--dataset=folder:{photos}",
            "--epochs=1",
            "--precision=mixed_bfloat16",
            "--backbone=resnet18_v1_5",  # which detectron2 knows
            f"--workdir={run}",
        )
        result = self.succeed(
            "export.py",
            f"--input={run}",
            "--format=keras,torch,torchvision,detectron2,saved_model,onnx,litert",
            "--features=c5",
        )
        self.assertIn("MODEL.RESNETS.STRIDE_IN_1X1 False", result.stdout)
        self.assertEqual(
            {path.name for path in (run / "export").iterdir()},
            {
                "README.md",
                "SHA256SUMS",
                "backbone.keras",
                "release.pth",
                "torchvision.pth",
                "detectron2.pkl",
                "saved_model",
                "backbone.onnx",
                "backbone.tflite",
            },
        )

    def test_bad_input_is_one_line_and_leaves_nothing(self):
        release_file(self.folder / "ckpt.pth")
        whole = (self.folder / "ckpt.pth").read_bytes()
        (self.folder / "half.pth").write_bytes(whole[: len(whole) // 2])
        (self.folder / "full").mkdir()
        (self.folder / "full" / "file").write_text("here already")
        for flags, message in (
            (["--input=absent.pth"], "--input=absent.pth.*no such file"),
            ([f"--input={self.folder / 'half.pth'}"], "no complete torch file"),
            (
                [f"--input={self.folder / 'ckpt.pth'}", "--backbone=resnet50_v1_5"],
                "holds resnet10_v1_5, not resnet50_v1_5",
            ),
            (
                [f"--input={self.folder / 'ckpt.pth'}", "--epochs=400"],
                "--epochs=400: the checkpoint has 4",
            ),
            (  # The default, which the checkpoint contradicts too.
                [f"--input={self.folder / 'ckpt.pth'}", "--threshold=0.7"],
                "--threshold=0.7: the checkpoint has 0.6",
            ),
            (
                [f"--input={self.folder / 'ckpt.pth'}", "--workdir=elsewhere"],
                "--workdir=elsewhere: the run is in --output",
            ),
            (
                [f"--input={self.folder / 'ckpt.pth'}", "--layout=torchvision", "--gamma=3"],
                "--gamma=3.0: the file holds no training",
            ),
            (
                [f"--input={self.folder / 'ckpt.pth'}", f"--output={self.folder / 'full'}"],
                "is not an empty folder",
            ),
        ):
            output = self.folder / "out"
            result = run_job("convert.py", f"--output={output}", *flags)
            self.assertEqual(result.returncode, 1, msg=result.stdout + result.stderr)
            self.assertRegex(result.stderr.splitlines()[-1], f"error: .*{message}")
            self.assertNotIn("Traceback", result.stderr)
            self.assertFalse(output.exists())
        self.assertEqual(
            sorted(path.name for path in self.folder.iterdir()), ["ckpt.pth", "full", "half.pth"]
        )


if __name__ == "__main__":
    tf.test.main()
