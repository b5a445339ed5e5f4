import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from pixpro_keras import backbones
from pixpro_keras.weights import export_backbone
from tests.helpers.files import read_metrics
from tests.helpers.jobs import run_job, run_jobs, write_photos
from tests.helpers.tables import unpadded
from tests.helpers.tiny_networks import RESNET6

# Flags beside the data, and what the error names.
BAD_INPUT = (
    ("--label_fraction=0", "--label_fraction=0"),
    ("--weights=/nowhere", "--weights=/nowhere"),
    ("--backbone=resnet51", "--backbone=resnet51"),
    ("--train_dataset=folder:/nowhere", "--train_dataset=folder:/nowhere"),
    ("--image_size=8", "--image_size=8"),
    ("--bn_momentum=0.5", "--bn_momentum=0.5"),
)
BAD_PROBE = (
    ("--batch_statistics", "--batch_statistics: needs --augment"),
    ("--holdout_fraction=0 --learning_rate_factors=1,2", "--holdout_fraction=0"),
    ("--learning_rate_factors=nan,1", "--learning_rate_factors=nan,1"),
)


@pytest.mark.slow
class EvaluationJobsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        for split, seed in (("train", 0), ("val", 20)):
            for number, name in enumerate(("one", "two")):
                write_photos(self.folder / split / name, count=6, seed=seed + number)
        self.flags = (
            f"--train_dataset=folder:{self.folder / 'train'}",
            f"--test_dataset=folder:{self.folder / 'val'}",
            "--backbone=resnet6_v1_5",
            "--image_size=32",
            f"--workdir={self.folder / 'run'}",
        )

    def test_knn_on_its_own_training_images(self):
        same = f"--test_dataset=folder:{self.folder / 'train'}"
        result = run_job("knn.py", *self.flags, same, "--k=1")
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertIn("| resnet6_v1_5, random | 12 | 12 | 100.0% |", unpadded(result.stdout))
        stored = json.loads((self.folder / "run" / "knn.json").read_text())
        self.assertEqual(stored["top-1"], 1.0)

    def test_flags_cfg_repeats_a_run_on_a_file(self):
        run = self.folder / "run"
        network = backbones.build(RESNET6)
        (file,) = export_backbone(network, RESNET6, self.folder, ["keras"])
        flags = (f"--dataset=folder:{self.folder}", f"--weights={file}", "--image_size=32", "--k=3")
        first = run_job("knn.py", *flags, f"--workdir={run}")
        self.assertEqual(first.returncode, 0, msg=first.stderr)
        self.assertIn(f"--backbone={RESNET6}\n", (run / "flags.cfg").read_text())
        stored = (run / "knn.json").read_text()
        again = run_job("knn.py", f"--flagfile={run / 'flags.cfg'}")
        self.assertEqual(again.returncode, 0, msg=again.stderr)
        self.assertEqual((run / "knn.json").read_text(), stored)
        wrong = run_job("knn.py", *flags, "--backbone=resnet50")
        self.assertIn(f"error: --weights={file} --backbone=resnet50: ", wrong.stderr)
        self.assertIn(f"is {RESNET6}, and `name` is resnet50", wrong.stderr)

    def test_backbones_are_compared_in_one_table(self):
        network = backbones.build(RESNET6)
        export_backbone(network, RESNET6, self.folder / "mine", ["keras"])
        for job, flags in (("knn", ["--k=1"]), ("linear_probe", ["--epochs=1", "--batch_size=4"])):
            compare = f"--compare=random,{self.folder / 'mine'}"
            workdir = self.folder / job
            result = run_job(f"{job}.py", *self.flags, compare, *flags, f"--workdir={workdir}")
            self.assertEqual(result.returncode, 0, msg=result.stderr)
            rows = json.loads((workdir / "compare.json").read_text())
            names = [row["backbone"] for row in rows]
            self.assertEqual(names, [f"{RESNET6}, random", str(self.folder / "mine")])
            self.assertIn((workdir / "compare.md").read_text(), result.stdout)
            self.assertTrue((workdir / "random" / f"{job}.json").exists())

    def test_linear_probe_of_few_labels_repeats_them(self):
        flags = ("--batch_size=8", "--label_fraction=0.3", "--learning_rate_factors=0.01,0.1")
        result = run_job("linear_probe.py", *self.flags, *flags, "--epochs=2")
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        stored = json.loads((self.folder / "run" / "linear_probe.json").read_text())
        # Of six images of each class two have labels, one of which is held out.
        self.assertEqual(stored["training images"], 2)
        rates = [row["learning rate"] for row in stored["all_classifiers"]]
        self.assertLen(set(rates), 2)
        chosen = max(stored["all_classifiers"], key=lambda row: row["held-out top-1"])
        self.assertEqual(stored["learning rate"], chosen["learning rate"])
        self.assertEqual(stored["top-1"], chosen["top-1"])

    def test_linear_probe_goes_on_where_it_stopped(self):
        flags = (*self.flags, "--batch_size=4", "--learning_rate_factors=0.001,0.1", "--augment")
        flags += ("--holdout_fraction=0.3", "--log_every_steps=1", "--deterministic")
        flags += ("--batch_statistics",)
        for epochs in (2, 4):
            result = run_job("linear_probe.py", *flags, f"--epochs={epochs}")
            self.assertEqual(result.returncode, 0, msg=result.stderr)
        self.assertIn("Continuing from", result.stderr)
        run = self.folder / "run"
        steps = [line["step"] for line in read_metrics(run)]
        self.assertAllEqual(steps, np.arange(1, 9))
        stored = json.loads((run / "linear_probe.json").read_text())
        self.assertEqual((stored["training images"], stored["test images"]), (8, 12))
        self.assertBetween(stored["top-1"], 0.0, 1.0)
        self.assertTrue((run / "confusion.png").exists())

    def test_weights_that_changed_since_the_training_are_refused(self):
        flags = (*self.flags, f"--weights={self.folder / 'mine'}", "--epochs=1", "--batch_size=4")
        for network in range(2):
            export_backbone(backbones.build(RESNET6), RESNET6, self.folder / "mine", ["keras"])
            result = run_job("linear_probe.py", *flags)
            self.assertEqual(result.returncode, network, msg=result.stderr)
        self.assertRegex(
            result.stderr,
            r"error: --workdir=.*checkpoints of another model: weights was of SHA-256 .*another dir",
        )

    def test_bad_input_is_one_line_naming_the_flag(self):
        bad = [(*self.flags, flags) for flags, _ in BAD_INPUT]
        bad.append((*self.flags, f"--test_dataset=folder:{self.folder}"))
        shutil.copytree(self.folder / "val", self.folder / "broken")
        (self.folder / "broken" / "one" / "9.jpg").write_text("no image")
        broken = f"--train_dataset=folder:{self.folder / 'broken'}"
        bad.append((*self.flags, broken, "--max_broken_share=0"))
        named = [name for _, name in BAD_INPUT] + ["--test_dataset", "cannot be decoded"]
        for script in ("knn.py", "linear_probe.py"):
            extra = "--k=5" if script == "knn.py" else "--batch_size=4"
            lines, names = [(*flags, extra) for flags in bad], named
            if script == "linear_probe.py":
                lines += [(*self.flags, extra, *flags.split()) for flags, _ in BAD_PROBE]
                names = [*named, *(name for _, name in BAD_PROBE)]
            for result, name in zip(run_jobs(script, lines), names, strict=True):
                with self.subTest(f"{script} {name}"):
                    self.assertEqual(result.returncode, 1)
                    lines = [x for x in result.stderr.splitlines() if x.startswith("error:")]
                    self.assertLen(lines, 1, msg=result.stderr)
                    self.assertIn(name, lines[0])


if __name__ == "__main__":
    tf.test.main()
