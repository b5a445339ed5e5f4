"""Official checkpoints and ours hold the same, both ways."""

import argparse
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.methods import PixContrast, PixPro
from pixpro_keras.optimizers import LARS, WarmupCosine
from pixpro_keras.weights import official, official_export
from pixpro_keras.weights.torch import TorchFileError, read_torch_file
from tests.helpers import torch_networks
from tests.helpers.shared_data import shared_path
from tests.helpers.tiny_networks import RESNET10

PROGRESS = official_export.TrainingProgress(
    step=30,
    steps_per_epoch=10,
    epochs=8,
    warmup_epochs=1,
    peak_learning_rate=0.5,
    learning_rate=0.4,
)


def build(cls=PixPro, hidden_dim=32, out_dim=16, **kwargs):
    method = cls(
        backbones.build(RESNET10),
        total_steps=80,
        hidden_dim=hidden_dim,
        out_dim=out_dim,
        **kwargs,
    )
    method.compile(optimizer=LARS(WarmupCosine(0.5, 80, 10)), jit_compile=False)
    method.optimizer.build(method.trainable_variables)
    return method


def official_checkpoint(**kwargs):
    """Content of a file of the official `save_checkpoint`, after some steps of its SGD."""
    torch = torch_networks.import_torch()
    model = torch_networks.official_pixpro(**kwargs)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0, "ignore": True},
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": 1e-5, "ignore": False},
        ],
        lr=0.5,
        momentum=0.9,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=70, eta_min=1e-6)
    generator = torch.Generator().manual_seed(1)
    for parameter in trained:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 1e-3
    optimizer.step()
    scheduler = {
        "multiplier": 100,
        "warmup_epoch": 10,
        "last_epoch": 30,
        "after_scheduler": schedule.state_dict(),
    }
    content = {
        "opt": argparse.Namespace(pixpro_p=1.5, pixpro_pos_ratio=0.6, pixpro_clamp_value=0.0),
        "model": {f"module.{k}": v for k, v in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler,
        "epoch": 3,
    }
    return content, model, optimizer


class OfficialCheckpointTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.torch = torch_networks.import_torch()
        self.path = pathlib.Path(self.create_tempdir().full_path) / "ckpt.pth"

    def load(self, content, **kwargs):
        self.torch.save(content, self.path)
        checkpoint = official.parse_official_checkpoint(read_torch_file(self.path), self.path)
        network = official.describe_network(checkpoint)
        self.assertEqual(network.pop("backbone"), RESNET10)
        method = build(**network | kwargs)
        official.load_official_checkpoint(method, checkpoint)
        return method, checkpoint

    @parameterized.parameters((0, False), (1, False), (2, False), (1, True))
    @pytest.mark.slow
    def test_there_and_back(self, transform_layers, instance):
        content, _, optimizer = official_checkpoint(
            transform_layers=transform_layers, instance=instance
        )
        method, checkpoint = self.load(content)
        self.assertEqual(method.steps_done(), 30)
        self.assertEqual(int(method.optimizer.iterations), 30)
        self.assertEqual((checkpoint.step, checkpoint.epoch), (30, 3))
        self.assertEqual(method.propagation.gamma, 1.5)
        self.assertEqual(method.threshold, 0.6)
        self.assertEqual(method.instance_weight, 1.0 if instance else 0.0)
        # No weight of ours is left without a value from the file; `step` was looked at above.
        named = {id(v) for v in official.official_variables(method).values()}
        left = [w.path for w in method.weights if id(w) not in named and w is not method.step]
        self.assertEmpty(left)

        options = {"arch": "resnet18", "pixpro_clamp_value": 0.0}
        official_export.save_official_checkpoint(method, self.path, PROGRESS, options)
        written = self.torch.load(self.path, weights_only=True)  # torch's default
        self.assertEqual(written["epoch"], 3)
        self.assertEqual(written["opt"]["arch"], "resnet18")
        # In the official order, which numbers the optimizer's slots; counters say the step.
        self.assertEqual(list(written["model"]), list(content["model"]))
        for name, tensor in content["model"].items():
            if name.endswith("num_batches_tracked"):
                self.assertEqual(int(written["model"][name]), 30)
            else:
                self.assertTrue(self.torch.equal(written["model"][name], tensor), name)
        before = {k: v["momentum_buffer"] for k, v in optimizer.state_dict()["state"].items()}
        optimizer.load_state_dict(written["optimizer"])
        after = {k: v["momentum_buffer"] for k, v in optimizer.state_dict()["state"].items()}
        self.assertEqual(set(after), set(before))
        for index, buffer in before.items():
            self.assertTrue(self.torch.equal(after[index], buffer), index)
        self.assertEqual([g["lr"] for g in optimizer.param_groups], [0.4, 0.4])
        self.assertEqual([g["weight_decay"] for g in optimizer.param_groups], [0, 1e-5])
        self.assertEqual(written["scheduler"]["last_epoch"], 30)
        self.assertEqual(written["scheduler"]["warmup_epoch"], 10)
        self.assertEqual(written["scheduler"]["after_scheduler"]["T_max"], 70)
        self.assertEqual(written["scheduler"]["after_scheduler"]["last_epoch"], 20)
        # The key network must not hold the online one's weights.
        self.assertNotAllClose(
            written["model"]["module.encoder_k.conv1.weight"],
            written["model"]["module.encoder.conv1.weight"],
        )

    @pytest.mark.slow
    def test_names_and_order_are_official(self):
        keys = json.loads(shared_path("reference", "official_state_dict_keys.json").read_text())
        self.assertEqual(sorted(keys, key=official_export._registration_order), list(keys))
        method = build_resnet50()
        named = official.official_variables(method)
        self.assertEqual(set(named), {k for k in keys if not k.endswith("num_batches_tracked")})

    @pytest.mark.slow
    def test_published_file_without_optimizer(self):
        content, _, _ = official_checkpoint()
        method, checkpoint = self.load({"model": content["model"]})
        self.assertEqual(method.steps_done(), 0)
        self.assertIsNone(checkpoint.step)
        self.assertEmpty(checkpoint.momenta)
        kernel = content["model"]["module.encoder.conv1.weight"].numpy()
        ours = method.encoder.backbone.get_layer("conv1_conv").kernel
        self.assertAllEqual(ours, kernel.transpose(2, 3, 1, 0))

    @pytest.mark.slow
    def test_features_are_those_of_torch(self):
        content, model, _ = official_checkpoint()
        method, _ = self.load(content)
        images = np.random.default_rng(0).standard_normal((2, 65, 97, 3)).astype("float32")
        for ours, theirs in (
            (method.encoder, model.encoder),
            (method.target_encoder, model.encoder_k),
        ):
            expected = torch_networks.features(theirs, images)
            result = ours.backbone(images, training=False)
            self.assertAllClose(result, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)

    @pytest.mark.slow
    def test_what_does_not_fit_is_said(self):
        content, _, _ = official_checkpoint()
        clamped = content | {"opt": argparse.Namespace(pixpro_clamp_value=0.5)}
        with self.assertRaisesRegex(TorchFileError, "pixpro_clamp_value=0.5"):
            self.load(clamped)
        groups = content["optimizer"]["param_groups"]
        sgd = content["optimizer"] | {"param_groups": groups[:1]}
        with self.assertRaisesRegex(TorchFileError, "not LARS as the release builds it"):
            self.load(content | {"optimizer": sgd})
        with self.assertRaisesRegex(ValueError, "projector.linear1.weight has the shape"):
            self.load(content, hidden_dim=64)
        state = dict(content["model"])
        del state["module.projector.bn1.bias"], content["optimizer"]
        with self.assertRaisesRegex(ValueError, "projector.bn1.bias is missing"):
            self.load(content | {"model": state})
        contrast = {k: v for k, v in state.items() if "projector_k" not in k}
        with self.assertRaisesRegex(TorchFileError, "no PixPro checkpoint of the release"):
            self.load({"model": contrast})

    @parameterized.parameters(
        ({"num_transform_layers": 3}, "at most 2 transform layers"),
        ({"use_propagation": False}, "without pixel loss or propagation"),
        ({"use_target": False}, "without a target encoder"),
    )
    @pytest.mark.slow
    def test_networks_without_an_official_counterpart(self, arguments, message):
        with self.assertRaisesRegex(ValueError, message):
            official_export.save_official_checkpoint(build(**arguments), self.path, PROGRESS, {})
        self.assertFalse(self.path.exists())

    def test_other_methods_give_their_online_backbone(self):
        method = build(PixContrast)
        backbone = method.encoder.backbone
        official_export.save_official_backbone(backbone, self.path, PROGRESS, {"arch": "resnet18"})
        written = self.torch.load(self.path, weights_only=True)  # torch's default
        model = torch_networks.resnet()
        state = {k.removeprefix("module.encoder."): v for k, v in written["model"].items()}
        model.load_state_dict(state, strict=True)
        images = np.random.default_rng(0).standard_normal((1, 64, 64, 3)).astype("float32")
        expected = keras.ops.convert_to_numpy(backbone(images, training=False))
        self.assertAllClose(torch_networks.features(model, images), expected, atol=1e-4, rtol=0)


def build_resnet50():
    return PixPro(backbones.build("resnet50_v1_5"), total_steps=1)


if __name__ == "__main__":
    tf.test.main()
