import contextlib
import pathlib

import keras
import numpy as np
import tensorflow as tf

from pixpro_keras import backbones
from pixpro_keras.layers.fpn import FPN
from pixpro_keras.weights import FPN_FILE, export_backbone, find_fpn, load_fpn, save_fpn


def maps(lowest=2, size=64, batch=2):
    rng = np.random.default_rng(0)
    return {
        f"c{level}": rng.normal(size=(batch, size >> level, size >> level, 3 * level)).astype("f")
        for level in range(lowest, 6)
    }


class FpnFileTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def save(self, fpn, lowest=3):
        fpn(maps(lowest))
        save_fpn(fpn, self.folder / FPN_FILE)
        return self.folder / FPN_FILE

    def test_weights_of_an_fpn_from_c3_fit_one_from_c2(self):
        trained, larger = FPN(8), FPN(8)
        larger(maps(2))
        missing = load_fpn(larger, self.save(trained))
        self.assertEqual(
            {name.split("/")[0].removesuffix("_bn") for name in missing}, {"lateral2", "output2"}
        )
        inputs = maps(2)
        outputs, expected = larger(inputs), trained({k: inputs[k] for k in ("c3", "c4", "c5")})
        for name, x in expected.items():
            self.assertAllEqual(outputs[name], x)

    def test_an_fpn_of_another_width_is_refused(self):
        path = self.save(FPN(8))
        other = FPN(4)
        other(maps(2))
        with self.assertRaisesRegex(ValueError, "fpn.npz belongs to another FPN"):
            load_fpn(other, path)

    def export(self, folder, seed=0):
        keras.utils.set_random_seed(seed)
        export_backbone(backbones.build("resnet18_v1_5"), "resnet18_v1_5", folder, ["keras"])

    def test_is_found_beside_the_backbone_of_a_run_of_an_export_and_of_a_file(self):
        export = self.folder / "export"
        self.export(export)
        paths = self.folder, export, export / "backbone.keras"
        for path in paths:
            self.assertIsNone(find_fpn(path))
        fpn = FPN(4)
        fpn(maps(3))
        save_fpn(fpn, export / FPN_FILE)
        for path in paths:
            self.assertEqual(find_fpn(path), export / FPN_FILE)

    def test_a_name_and_a_file_elsewhere_have_none(self):
        for folder in (self.folder, self.folder / "export"):
            folder.mkdir(exist_ok=True)
            (folder / FPN_FILE).touch()
        with contextlib.chdir(self.folder):
            for name in ("imagenet", "random", "resnet50"):
                self.assertIsNone(find_fpn(name))
        (self.folder / FPN_FILE).unlink()
        (self.folder / "resnet50.pth").touch()
        self.assertIsNone(find_fpn(self.folder / "resnet50.pth"))

    def test_one_of_other_weights_is_not_found(self):
        self.export(self.folder)
        path = self.save(FPN(4))
        self.export(self.folder)  # The same weights.
        self.assertEqual(find_fpn(self.folder), path)
        self.export(self.folder, seed=1)
        self.assertTrue(path.exists())
        self.assertIsNone(find_fpn(self.folder))


if __name__ == "__main__":
    tf.test.main()
