"""The release's checkpoint: the training state where the release has such a run, else the backbone."""

import pathlib

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.cli import export
from pixpro_keras.cli.options.method_options import ModelOptions, build_training
from pixpro_keras.cli.options.parsing import parse
from tests.helpers import torch_networks

SMALL = ("--backbone=resnet6_v1_5", "--projector_hidden_dim=8", "--projector_dim=4", "--epochs=9")


class ExportTorchTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("", None),
        ("--optimizer=adamw --base_learning_rate=0.001", "its PixPro has no --optimizer=adamw"),
        ("--schedule=poly", "its PixPro has no --schedule=poly"),
        ("--nopropagation", "the release has no PixPro without"),
        ("--method=byol", "it has no --method=byol"),
    )
    def test_whole_or_backbone_alone(self, flags, reason):
        torch = torch_networks.import_torch()
        options, _ = parse(ModelOptions, [*SMALL, *flags.split()])
        options = options.replace(steps_per_epoch=2)
        path = pathlib.Path(self.create_tempdir().full_path, "release.pth")
        (use,) = export.export_torch(options, build_training(options), path).values()
        content = torch.load(path, weights_only=False)
        self.assertEqual("optimizer" in content, reason is None)
        self.assertIn("module.encoder.conv1.weight", content["model"])
        if reason is None:
            self.assertEqual(use, "the PixPro release's --resume and transfer scripts")
        else:
            self.assertRegex(use, f"transfer scripts, not its --resume: {reason}")


if __name__ == "__main__":
    tf.test.main()
