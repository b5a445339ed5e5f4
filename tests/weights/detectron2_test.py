import os
import pathlib
import pickle

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.weights import detectron2, export_backbone, load_backbone
from tests.helpers import torch_networks
from tests.helpers.random_weights import photo, randomize


class _Attack:
    def __reduce__(self):
        return os.system, ("true",)


def to_torch_name(name):
    """The rule of the release's converter, backwards."""
    name = name.removeprefix("stem.").replace("shortcut.norm", "downsample.1")
    name = name.replace("shortcut", "downsample.0")
    for stage in (2, 3, 4, 5):
        name = name.replace(f"res{stage}.", f"layer{stage - 1}.")
    for index in (1, 2, 3):
        name = name.replace(f"conv{index}.norm", f"bn{index}")
    return name


class Detectron2FilesTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.exported = pathlib.Path(cls.create_tempdir(cls()).full_path)
        cls.exports = {}

    @classmethod
    def tearDownClass(cls):
        del cls.exports
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def export(self, name):
        """A backbone, its file and what is said of it: once for all tests, which change neither."""
        if name not in self.exports:
            backbone = randomize(backbones.build(name))
            folder = self.exported / name
            ((path, usage),) = export_backbone(backbone, name, folder, ["detectron2"]).items()
            self.exports[name] = backbone, path, usage
        return self.exports[name]

    @parameterized.parameters(
        ("resnet18_v1_5", (2, 2, 2, 2), False, False),
        ("resnet50_v1_5", (3, 4, 6, 3), True, False),
        ("resnet50", (3, 4, 6, 3), True, True),
        ("resnext50_32x4d", (3, 4, 6, 3), True, False, {"groups": 32, "group_width": 4}),
    )
    @pytest.mark.slow
    def test_features_in_torch(self, name, blocks, bottleneck, stride_in_1x1, settings=None):
        torch = torch_networks.import_torch()
        backbone, path, usage = self.export(name)
        content = pickle.loads(path.read_bytes())
        self.assertTrue(content["matching_heuristics"])
        self.assertIn(f"MODEL.RESNETS.STRIDE_IN_1X1 {stride_in_1x1}", usage)
        model = torch_networks.resnet(blocks, bottleneck, stride_in_1x1, **(settings or {}))
        state = {to_torch_name(k): torch.from_numpy(v) for k, v in content["model"].items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        self.assertEmpty(unexpected)
        self.assertEmpty([k for k in missing if not k.endswith("num_batches_tracked")])
        # As detectron2 sees the photograph: by the config lines that belong with the file.
        config = content["config"]
        photograph = photo(65, 97)
        seen = photograph if config["INPUT.FORMAT"] == "RGB" else photograph[..., ::-1]
        seen = (seen - config["MODEL.PIXEL_MEAN"]) / config["MODEL.PIXEL_STD"]
        expected = backbone(backbones.preprocess_input(name)(photograph), training=False)
        result = torch_networks.features(model, seen.astype("float32"))
        largest = np.abs(expected).max()
        self.assertGreater(np.std(expected), 1e-2)
        self.assertAllClose(result, expected, atol=3e-5 * largest, rtol=0)

    def test_config_of_groups_and_widths(self):
        for name, groups, width in (("resnext101_32x8d", 32, 8), ("wide_resnet50_2", 1, 128)):
            config = detectron2.detectron2_config(name)
            self.assertEqual(config["MODEL.RESNETS.NUM_GROUPS"], groups)
            self.assertEqual(config["MODEL.RESNETS.WIDTH_PER_GROUP"], width)
        with self.assertRaisesRegex(ValueError, "resnet50_d is no ResNet that detectron2 has"):
            detectron2.detectron2_config("resnet50_d")

    @parameterized.parameters("resnet18_v1_5", "resnet50", "resnext50_32x4d")
    @pytest.mark.slow
    def test_there_and_back(self, name):
        backbone, path, _ = self.export(name)
        network = load_backbone(path)
        self.assertEqual(network.name, name)
        images = photo(64, 64) / 64 - 2
        expected = backbone(images, training=False).numpy()
        result = network(images, training=False)
        self.assertAllClose(result, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
        if name == "resnet18_v1_5":  # no bias to move, so the very same weights
            for ours, theirs in zip(network.weights, backbone.weights, strict=True):
                np.testing.assert_array_equal(ours, theirs)

    @parameterized.named_parameters(
        ("of_torchvision", {"stem.fc.weight": (10, 512), "stem.fc.bias": (10,)}),
        ("of_moco", {"stem.fc.0.weight": (512, 512), "stem.fc.2.bias": (128,)}),
    )
    def test_a_head_is_ignored(self, head):
        backbone, path, _ = self.export("resnet18_v1_5")
        arrays = pickle.loads(path.read_bytes())["model"]
        arrays |= {name: np.ones(shape, "float32") for name, shape in head.items()}
        path = self.folder / "converted.pkl"
        path.write_bytes(pickle.dumps({"model": arrays, "matching_heuristics": True}))
        for ours, theirs in zip(load_backbone(path).weights, backbone.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_names_of_a_whole_network(self):
        _, path, _ = self.export("resnet18_v1_5")
        names = set(pickle.loads(path.read_bytes())["model"])
        self.assertLen(names, 100)
        self.assertContainsSubset(
            {
                "stem.conv1.weight",
                "stem.conv1.norm.running_var",
                "res2.0.conv1.norm.weight",
                "res3.0.shortcut.weight",
                "res3.0.shortcut.norm.bias",
                "res5.1.conv2.weight",
            },
            names,
        )

    def test_networks_that_detectron2_lacks(self):
        with self.assertRaisesRegex(ValueError, "mobilenetv2 is no ResNet that detectron2 has"):
            export_backbone(
                backbones.build("mobilenetv2"), "mobilenetv2", self.folder / "x", ["detectron2"]
            )
        self.assertFalse((self.folder / "x").exists())

    @pytest.mark.slow
    def test_bad_files(self):
        _, path, _ = self.export("resnet18_v1_5")
        whole = pickle.loads(path.read_bytes())
        del whole["model"]["res4.1.conv2.weight"]
        for content, message in (
            (path.read_bytes()[:5000], "no complete pickle of arrays"),
            (pickle.dumps(_Attack()), "imports .*system"),
            (pickle.dumps([1, 2]), "no ResNet in detectron2's names"),
            (pickle.dumps(whole), "res4.1.conv2.weight is missing"),
        ):
            path = self.folder / "bad.pkl"  # which no SHA256SUMS lists
            path.write_bytes(content)
            with self.assertRaisesRegex(detectron2.Detectron2FileError, message):
                load_backbone(path)


if __name__ == "__main__":
    tf.test.main()
