"""Every preset is made of flags that exist, and its header says how to run it."""

import dataclasses
import unittest

from pixpro_keras.cli.linear_probe import LinearProbeOptions
from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.detect_options import DetectOptions
from pixpro_keras.cli.options.pretrain_options import PretrainOptions
from pixpro_keras.cli.options.segment_options import SegmentOptions
from pixpro_keras.cli.options.training_options import build_schedule, resolve_lengths
from tests.helpers.jobs import ROOT

CONFIGS = ROOT / "experiments" / "configs"
PRESETS = sorted((CONFIGS / "pretrain").glob("*.cfg"))


def parse(cls, presets):
    """Values of all options of a command, by name of the preset."""
    return {
        preset.name: dataclasses.asdict(parsing.parse(cls, [f"--flagfile={preset}"])[0])
        for preset in presets
    }


class PresetFilesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.values = parse(PretrainOptions, PRESETS)

    def test_linear_classification_is_the_papers(self):
        presets = [
            CONFIGS / "transfer" / f"{name}.cfg"
            for name in ("linear_imagenet", "linear_imagenet_frozen")
        ]
        release, frozen = parse(LinearProbeOptions, presets).values()
        for flags in (release, frozen):
            self.assertEqual((flags["base_learning_rate"], flags["weight_decay"]), (30, 0))
            self.assertEqual((flags["batch_size"], flags["epochs"]), (256, 100))
            self.assertTrue(flags["augment"])
        # zdaxie/PixPro, contrast/option.py, contrast/lr_scheduler.py, main_linear.py
        self.assertEqual((release["schedule"], release["warmup_epochs"]), ("cosine", 5))
        self.assertEqual((release["warmup_fraction"], release["end_learning_rate"]), (0.01, 1e-6))
        self.assertEqual((release["batch_statistics"], release["bn_momentum"]), (True, 0.9))
        # facebookresearch/moco, main_lincls.py
        self.assertEqual((frozen["schedule"], frozen["warmup_epochs"]), ("steps", 0))
        self.assertEqual(frozen["decay_epochs"], ("60", "80"))
        self.assertEqual((frozen["batch_statistics"], frozen["precision"]), (False, "float32"))

    def test_segmentation_of_cityscapes_is_the_papers(self):
        presets = [
            CONFIGS / "transfer" / f"{name}.cfg"
            for name in ("cityscapes_fcn", "camvid_fcn", "camvid_cells")
        ]
        flags = parse(SegmentOptions, presets)["cityscapes_fcn.cfg"]
        self.assertEqual(flags["iterations"], 90_000)
        self.assertEqual(flags["decay_iterations"], ("63000", "81000"))
        self.assertEqual((flags["base_learning_rate"], flags["weight_decay"]), (0.01, 1e-4))
        self.assertEqual((flags["batch_size"], flags["crop_size"]), (16, 769))
        self.assertEqual((flags["output_stride"], flags["frozen"]), ("16", False))
        self.assertEqual((flags["color_jitter"], flags["whole_images"]), (False, True))
        self.assertTrue(flags["align_corners"])

    def test_detection_is_the_papers(self):
        names = (
            "voc_c4_24k",
            "coco_c4_1x",
            "coco_fpn_1x",
            "bccd_c4",
            "pennfudan_fpn",
            "pennfudan_c4",
        )
        presets = [CONFIGS / "transfer" / f"{name}.cfg" for name in names]
        values = parse(DetectOptions, presets)
        for name, iterations, decays, warmup in (
            ("voc_c4_24k", 24_000, [18_000, 22_000], 100),
            ("coco_c4_1x", 90_000, [60_000, 80_000], 1000),
            ("coco_fpn_1x", 90_000, [60_000, 80_000], 1000),
        ):
            flags = values[f"{name}.cfg"]
            self.assertEqual(flags["iterations"], iterations)
            self.assertEqual(flags["decay_iterations"], tuple(str(step) for step in decays))
            self.assertEqual(flags["warmup_iterations"], warmup)
            self.assertEqual(flags["learning_rate_scaling"], "linear")
            self.assertEqual(flags["base_learning_rate"] * flags["batch_size"] / 256, 0.02)
            self.assertEqual((flags["weight_decay"], flags["decay_norms"]), (1e-4, False))
            self.assertEqual((flags["num_rois"], flags["max_proposals"]), (512, None))
            self.assertEqual(flags["precision"], "float32")
            self.assertEqual((flags["test_short_side"], flags["max_side"]), (800, 1333))
            shortest = 480 if name == "voc_c4_24k" else 640
            sides = tuple(str(side) for side in range(shortest, 801, 32))
            self.assertEqual(flags["short_sides"], sides)
        models = [values[f"{name}.cfg"]["model"] for name in names[:3]]
        self.assertEqual(models, ["faster_rcnn_c4", "mask_rcnn_c4", "mask_rcnn_fpn"])

    def test_warm_up_starts_at_0_as_in_simclr_and_byol(self):
        # google-research/simclr, model_util.py; deepmind-research, byol/utils/schedules.py
        for name in ("simclr_r50_1000ep", "byol_r50_300ep"):
            preset = CONFIGS / "pretrain" / f"{name}.cfg"
            options, _ = parsing.parse(PretrainOptions, [f"--flagfile={preset}"])
            options = resolve_lengths(options, 1_281_167)
            schedule = build_schedule(options)
            steps, peak = 10 * (1_281_167 // 4096), 0.3 * 4096 / 256
            for step in (0, 1, 1000, steps):
                self.assertAlmostEqual(float(schedule(step)), peak * step / steps, places=5)

    def test_header(self):
        for preset in CONFIGS.rglob("*.cfg"):
            header = [line for line in preset.read_text().splitlines() if line.startswith("#")]
            text = "\n".join(header)
            for part in ("Expected", "Command:", preset.name):
                self.assertIn(part, text, preset.name)

    def test_rows_of_table_3(self):
        for with_propagation in (False, True):
            for temperature in (0.1, 0.2, 0.3):
                part = "_ppm" if with_propagation else ""
                name = f"pixcontrast{part}_tau{temperature}_r50_100ep.cfg".replace("0.", "0")
                flags = self.values[name]
                self.assertEqual(flags["method"], "pixcontrast")
                self.assertEqual(flags["temperature"], temperature)
                self.assertEqual(bool(flags["propagation"]), with_propagation)
                self.assertEqual((flags["epochs"], flags["batch_size"]), (100, 1024))
        self.assertIs(self.values["pixpro_noppm_r50_100ep.cfg"]["propagation"], False)

    def test_rows_of_table_4(self):
        weights = {
            name: (
                self.values[f"{name}_r50_100ep.cfg"]["pixel_weight"],
                self.values[f"{name}_r50_100ep.cfg"]["instance_weight"],
            )
            for name in ("pixpro", "simclrstar", "pixpro_simclrstar")
        }
        self.assertEqual(
            weights, {"pixpro": (1, 0), "simclrstar": (0, 1), "pixpro_simclrstar": (1, 1)}
        )

    def test_small_presets_alone_choose_their_precision(self):
        automatic = {name for name, flags in self.values.items() if flags["precision"] == "auto"}
        self.assertEqual(automatic, {"quickstart.cfg", "pixpro_small.cfg"})

    def test_every_preset_names_a_method_and_its_recipe(self):
        recipes = {
            "supervised": "supervised",
            "moco": "instdisc",
            "mocov2": "mocov2",
            "densecl": "mocov2",
            "infomin": "infomin",
            "slotcon": "slotcon",
            "simclr": "simclr",
        }
        found = {flags["method"] for flags in self.values.values()}
        self.assertEqual(found, {*recipes, "byol", "pixpro", "pixcontrast"})
        for name, flags in self.values.items():
            self.assertEqual(flags["augmentation"], recipes.get(flags["method"], "byol"), name)
            if flags["optimizer"] == "sgd":
                self.assertEqual((flags["batch_size"], flags["weight_decay"]), (256, 1e-4), name)
                # torchvision's ResNet by default, as all of these authors take it, in float32.
                self.assertEqual(
                    (flags["zero_init_residual"], flags["precision"]), (False, "float32")
                )
            fan = "in" if flags["method"] == "densecl" else "out"
            self.assertEqual(flags["kernel_fan"], fan, name)
        self.assertEqual(self.values["moco_r50_200ep.cfg"]["decay_epochs"], ("120", "160"))
        fpn = [name for name, flags in self.values.items() if flags["fpn"]]
        self.assertEqual(sorted(fpn), ["pixpro_fpn_r50_100ep.cfg", "pixpro_fpn_r50_400ep.cfg"])


if __name__ == "__main__":
    unittest.main()
