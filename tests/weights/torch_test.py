import argparse
import os
import pathlib
import pickle

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.weights import export_backbone, load, torch
from tests.helpers import torch_networks
from tests.helpers.random_weights import randomize
from tests.helpers.tiny_networks import RESNET10, of_one_block_a_stage


class _Attack:
    def __reduce__(self):
        return os.system, ("true",)


class TorchFilesTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.torch = torch_networks.import_torch()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def save(self, content, name="weights.pth"):
        self.torch.save(content, self.folder / name)
        return self.folder / name

    def check_features(self, path, model, atol=1e-5, size=(65, 97)):
        images = np.random.default_rng(0).standard_normal((2, *size, 3)).astype("float32")
        expected = torch_networks.features(model, images)
        self.assertGreater(expected.std(), 1e-2)
        network = load.load_backbone(path)
        result = network(images, training=False)
        self.assertAllClose(result, expected, atol=atol * np.abs(expected).max(), rtol=0)
        return network

    @parameterized.parameters(
        ("", None),
        ("", "state_dict"),
        ("module.encoder_q.", "state_dict"),
        ("backbone.", "state_dict"),
        ("module.", "model"),
        ("somewhere.else.", "model"),
        ("encoder_q.0.", "state_dict"),  # mmselfsup
        ("module.encoder_q.0.", "state_dict"),
        ("module.backbone.", "student"),  # DINO
        ("backbone.", "teacher"),
    )
    def test_prefixes(self, prefix, key):
        model = torch_networks.randomize(torch_networks.resnet((1, 1, 1, 1)))
        state = {f"{prefix}{k}": v for k, v in model.state_dict().items()}
        state[f"{prefix}fc.weight"] = self.torch.zeros(10, 512)
        state["queue"] = self.torch.zeros(8, 128)
        self.check_features(self.save({key: state, "epoch": 3} if key else state), model)

    def test_online_network_is_preferred(self):
        online = torch_networks.randomize(torch_networks.resnet(), seed=1)
        other = torch_networks.randomize(torch_networks.resnet(), seed=2)
        state = {f"module.encoder_k.{k}": v for k, v in other.state_dict().items()}
        state |= {f"module.encoder_q.{k}": v for k, v in online.state_dict().items()}
        self.check_features(self.save({"state_dict": state}), online)

    @parameterized.parameters(
        ("encoder_q.0.", "encoder_k.0."),
        ("online_net.0.", "target_net.0."),
        ("teacher.backbone.", "student.backbone."),
    )
    def test_which_of_two_networks(self, online, other):
        state = torch_networks.resnet().state_dict()
        both = {f"{prefix}{k}": v for prefix in (other, online) for k, v in state.items()}
        self.assertEqual(torch.find_backbone(both, "x"), (online, RESNET10))

    def test_the_first_of_several_networks_is_not_taken_for_the_backbone(self):
        state = torch_networks.resnet().state_dict()
        both = {f"{i}.{k}": v for i in range(2) for k, v in state.items()}
        with self.assertRaisesRegex(ValueError, "several ResNets, below 0., 1.,"):
            torch.find_backbone(both, "x")

    def test_of_dino_the_teacher(self):
        teacher = torch_networks.randomize(torch_networks.resnet(), seed=1).state_dict()
        student = torch_networks.resnet().state_dict()
        content = {
            "student": {f"module.backbone.{k}": v for k, v in student.items()},
            "teacher": {f"backbone.{k}": v for k, v in teacher.items()},
            "args": argparse.Namespace(arch="resnet18"),
        }
        path = self.save(content, "dino.ckpt")
        state = torch.find_state_dict(torch.read_torch_file(path), path)
        self.assertEqual(torch.find_backbone(state, path)[0], "backbone.")
        self.assertIs(
            self.torch.equal(state["backbone.conv1.weight"], teacher["conv1.weight"]), True
        )

    @parameterized.parameters(("", 4), ("backbone.", 4), ("encoder.", 3), ("encoder_q.0.", 4))
    def test_numbered_sequential(self, prefix, first_stage):
        model = torch_networks.randomize(torch_networks.resnet())
        numbers = {"conv1": 0, "bn1": 1} | {f"layer{i}": first_stage + i - 1 for i in range(1, 5)}
        state = {}
        for name, tensor in model.state_dict().items():
            part, _, rest = name.partition(".")
            if part in numbers:
                state[f"{prefix}{numbers[part]}.{rest}"] = tensor
        state[f"{prefix}9.weight"] = self.torch.zeros(10, 512)  # the classifier
        self.check_features(self.save({"state_dict": state}, "numbered.ckpt"), model)

    @pytest.mark.slow
    def test_bottlenecks_of_any_depth(self):
        model = torch_networks.randomize(torch_networks.resnet((3, 4, 6, 3), bottleneck=True))
        self.check_features(self.save(model.state_dict()), model, atol=3e-5)

    @parameterized.parameters(
        ("resnet18_d", (2, 2, 2, 2), False, {"is_deep": True}),
        ("resnet50_d", (3, 4, 6, 3), True, {"is_deep": True}),
        ("resnext50_32x4d", (3, 4, 6, 3), True, {"groups": 32, "group_width": 4}),
        ("wide_resnet50_2", (3, 4, 6, 3), True, {"group_width": 128}),
    )
    @pytest.mark.slow
    def test_relatives_of_the_resnet(self, name, blocks, bottleneck, settings):
        state = torch_networks.resnet(blocks, bottleneck, **settings).state_dict()
        self.assertEqual(torch.find_backbone(state, "x"), ("", name))
        with of_one_block_a_stage(name) as blocks:
            model = torch_networks.resnet(blocks, bottleneck, **settings)
            path = self.save(torch_networks.randomize(model).state_dict())
            # The release's ResNet-D takes maps of even sides only.
            network = self.check_features(path, model, atol=3e-5, size=(64, 96))
        self.assertEqual(network.name, name)

    def test_names_of_timms_deep_stem(self):
        model = torch_networks.randomize(torch_networks.resnet((2, 2, 2, 2), is_deep=True))
        parts = {"0.0": "0", "0.1": "1", "1.0": "3", "1.1": "4", "2": "6"}
        state = {}
        for name, tensor in model.state_dict().items():
            for ours, timms in parts.items():
                prefix = f"conv1.{ours}."
                if name.startswith(prefix):
                    name = f"conv1.{timms}.{name.removeprefix(prefix)}"
                    break
            state[name] = tensor
        self.assertIn("conv1.4.running_mean", state)
        self.check_features(self.save(state), model, size=(64, 96))

    @parameterized.parameters(
        ("resnet18_v1_5", (2, 2, 2, 2), False, {}),
        ("resnext50_32x4d", (1, 1, 1, 1), True, {"groups": 32, "group_width": 4}),
    )
    @pytest.mark.slow
    def test_exported_weights_load_strictly(self, name, blocks, bottleneck, settings):
        if bottleneck:
            self.enterContext(of_one_block_a_stage(name))
        backbone = randomize(backbones.build(name))
        (path,) = export_backbone(backbone, name, self.folder / "out", ["torchvision"])
        model = torch_networks.resnet(blocks, bottleneck, **settings)
        model.load_state_dict(self.torch.load(path))  # all names and shapes, none left
        images = np.random.default_rng(0).standard_normal((2, 65, 97, 3)).astype("float32")
        expected = backbone(images, training=False)
        found = torch_networks.features(model.eval(), images)
        self.assertAllClose(found, expected, atol=3e-5 * np.abs(expected).max(), rtol=0)

    def test_exported_deep_stems_have_timms_names(self):
        network = backbones.plain_network("resnet18_d")
        state = torch.torchvision_state_dict(network)
        stem = [name for name in state if name.startswith("conv1.") and name.endswith("weight")]
        self.assertEqual(stem, [f"conv1.{index}.weight" for index in (0, 1, 3, 4, 6)])
        path = self.save({name: self.torch.tensor(array) for name, array in state.items()})
        for one, two in zip(load.load_backbone(path).weights, network.weights, strict=True):
            self.assertAllEqual(one, two)

    def test_safetensors_there_and_back(self):
        pytest.importorskip("safetensors", reason="needs pip install 'pixpro-keras[torch]'")
        network = randomize(backbones.plain_network("resnet10_v1_5"))
        (path,) = export_backbone(network, "resnet10_v1_5", self.folder / "a", ["safetensors"])
        for one, two in zip(load.load_backbone(path).weights, network.weights, strict=True):
            self.assertAllEqual(one, two)
        half = self.folder / "half.safetensors"
        half.write_bytes(path.read_bytes()[:1000])
        with self.assertRaisesRegex(ValueError, "half.safetensors: no complete safetensors file"):
            load.load_backbone(half)

    def test_other_networks_are_not_exported(self):
        backbone = backbones.build("mobilenetv3small")
        with self.assertRaisesRegex(ValueError, "mobilenetv3small has no torchvision weights"):
            export_backbone(backbone, "mobilenetv3small", self.folder, ["torchvision"])

    def test_what_is_no_torch_file(self):
        pickled = self.folder / "weights.pkl.pth"
        pickled.write_bytes(pickle.dumps({"epoch": 3}))
        for name, content in (
            ("a.jpg", b"\xff\xd8\xff\xe0"),
            ("a.pth", b"<html>"),
            ("b.pth", b"text"),
        ):
            (self.folder / name).write_bytes(content)
            with self.assertRaisesRegex(ValueError, f"{name}: not a torch file$"):
                torch.read_torch_file(self.folder / name)
        with self.assertRaisesRegex(ValueError, r"no complete torch file \(Unsupported \w+ \d+\)$"):
            torch.read_torch_file(pickled)

    def test_half_precision_and_namespace(self):
        model = torch_networks.randomize(torch_networks.resnet()).half()
        path = self.save({"model": model.state_dict(), "opt": argparse.Namespace(lr=1)})
        self.check_features(path, model.float())

    def test_bad_files(self):
        state = torch_networks.resnet().state_dict()
        whole = self.save(state).read_bytes()
        truncated = self.folder / "truncated.pth"
        truncated.write_bytes(whole[: len(whole) // 2])
        deep_stem = {k.replace("conv1.weight", "conv1.0.weight", 1): v for k, v in state.items()}
        deep_stem["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"]
        wide = dict(state) | {"layer1.0.conv1.weight": self.torch.zeros(128, 64, 3, 3)}
        shallow = torch_networks.resnet((2, 2, 2, 1)).state_dict()
        several = {f"a.{k}": v for k, v in state.items()} | {f"b.{k}": v for k, v in state.items()}
        for content, message in (
            (truncated, "no complete torch file"),
            (self.folder / "absent.pth", "absent.pth"),
            ({"model": _Attack()}, "imports .*system, which could run code"),
            ({"epoch": 3}, "no state dict, only epoch"),
            ({"fc.weight": self.torch.zeros(3, 3)}, "no ResNet in torchvision's names.*fc.weight"),
            (deep_stem, "no stem conv1.weight"),
            (wide, r"layer1.0.conv1.weight has the shape .*128\) instead of .*64\)"),
            (shallow, "2-2-2-1 basic blocks is none of resnet18_v1_5"),
            (several, "several ResNets, below a., b.,"),
        ):
            path = content if isinstance(content, pathlib.Path) else self.save(content, "bad.pth")
            with self.assertRaisesRegex(ValueError, message):
                load.load_backbone(path)

    def test_wrong_depth(self):
        path = self.save(torch_networks.resnet().state_dict())
        state = torch.find_state_dict(torch.read_torch_file(path), path)
        with self.assertRaisesRegex(ValueError, f"holds {RESNET10}, not resnet50_v1_5"):
            torch.backbone_from_state_dict(state, path, "resnet50_v1_5")


if __name__ == "__main__":
    tf.test.main()
