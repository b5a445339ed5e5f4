import fcntl
import json
import os
import pathlib
import shlex
import subprocess
import sys

import pytest
import tensorflow as tf

from tests.helpers.jobs import ROOT, run_job
from tests.helpers.tables import unpadded

# Flags, and what the error says.
BAD_INPUT = (
    ("--scale=small", "--data: must be given for --scale=small"),
    ("--scale=small --data=/nowhere", "--data=/nowhere: there is no /nowhere/caltech101"),
    ("--seeds=0,x", "--seeds=0,x"),
    ("--rows=byol", "--rows=byol"),
    ("--columns=voc", "--columns=voc"),
    ("--override=--epochs=1", "--override=--epochs=1"),
    ("--override=voc:--epochs=1", "--override=voc:"),
    ("--submit=sbatch", "--submit=sbatch"),
    ("--table=2", "table"),
    ("x", "unexpected argument 'x'"),
)


class ReproduceTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.workdir = pathlib.Path(self.create_tempdir().full_path) / "results"

    def run_script(self, flags):
        return run_job("reproduce", *self.command_line(flags))

    def command_line(self, flags):
        return ["--table=3", f"--workdir={self.workdir}", *shlex.split(flags)]

    def test_bad_input_is_one_line_naming_the_flag(self):
        for flags, expected in BAD_INPUT:
            with self.subTest(flags):
                result = self.run_script(flags)
                self.assertEqual(result.returncode, 1)
                self.assertIn(expected, result.stderr)
                self.assertNotIn("Traceback", result.stderr)
                self.assertFalse(self.workdir.exists())

    def test_prints_the_commands_of_the_paper(self):
        flags = "--scale=paper --data=/data --rows=pixpro,pixpro_noppm --seeds=0,1"
        dry = self.run_script(f"{flags} --dry_run")
        self.assertEqual(dry.returncode, 0, dry.stderr)
        self.assertFalse(self.workdir.exists())
        result = self.run_script(flags)
        self.assertStartsWith(result.stdout, dry.stdout)
        lines = [line for line in dry.stdout.splitlines() if not line.startswith("#")]
        self.assertLen(lines, 2 * 2 * 3)
        self.assertEqual(
            lines[0],
            "python experiments/pretrain.py --flagfile=experiments/configs/pretrain/"
            "pixpro_noppm_r50_100ep.cfg --data_dir=/data/tfds --seed=0 "
            f"--workdir={self.workdir}/pixpro_noppm/seed0/pretrain",
        )
        self.assertIn("# pixpro/seed1/voc, after pixpro/seed1/pretrain", dry.stdout)
        text = unpadded((self.workdir / "table3.md").read_text())
        self.assertIn("| PixPro | 58.8 | not run | 40.8 | not run |", text)

    def test_one_at_a_time(self):
        self.workdir.mkdir()
        with open(self.workdir / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            result = self.run_script("--scale=paper --data=/data")
        self.assertEqual(result.returncode, 1)
        self.assertIn("another reproduce.py is running there", result.stderr)

    @pytest.mark.slow
    def test_a_change_of_flags_is_said_and_redone_when_asked(self):
        flags = "--scale=paper --data=/data --rows=pixpro --columns=voc --submit='echo {command} 7'"
        self.assertEqual(self.run_script(flags).returncode, 0)
        pretrain = self.workdir / "pixpro" / "seed0" / "pretrain"
        self.assertIn('"7"', (pretrain / "job.json").read_text())
        (pretrain / "curves.png").touch()
        self.assertIn("voc: submitted as 7", self.run_script(flags).stdout)

        changed = f"{flags} --override=pretrain:--gamma=3"
        result = self.run_script(changed)
        self.assertEqual(result.returncode, 1)
        self.assertIn("is of other flags (gamma: was 2, is 3). --on_change=redo", result.stderr)
        self.assertTrue((pretrain / "curves.png").exists())
        result = self.run_script(f"{changed} --on_change=redo")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertFalse((pretrain / "curves.png").exists())
        self.assertEqual(json.loads((pretrain / "job.json").read_text())["flags"]["gamma"], "3")
        for name in ("pretrain.old1", "voc.old1"):
            self.assertTrue((pretrain.parent / name).is_dir(), name)
        self.assertIn("voc: waits for pixpro/seed0/pretrain", result.stdout)

    @pytest.mark.slow
    def test_a_tiny_table_by_one_command(self):
        # Of one view and one network, this pre-training is the quickest.
        flags = "--table=1 --scale=tiny --rows=supervised --columns=cells"
        # The script itself, in a process that is started as a user does.
        result = subprocess.run(
            [sys.executable, "experiments/reproduce.py", *self.command_line(flags)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        found = json.loads((self.workdir / "table1.json").read_text())
        rows = {row["name"]: row["cells"]["cells"]["mIoU"] for row in found["rows"]}
        file = self.workdir / "supervised/seed0/cells/segment.json"
        stored = json.loads(file.read_text())
        self.assertAlmostEqual(rows["supervised"]["mean"], 100 * stored["mIoU"])
        self.assertIsNone(rows["simclr"]["mean"])
        run = next(one for one in found["runs"] if one["job"] == "supervised/seed0/pretrain")
        self.assertEqual(run["state"], "finished")
        self.assertGreater(run["images_per_second"], 0)
        for path in run["files"].values():
            self.assertTrue((self.workdir / path).is_file(), path)

        again = self.run_script(flags)
        self.assertIn("2 of 2 jobs are finished already", again.stdout)
        changed = self.run_script(f"{flags} --override=pretrain:--iterations=8")
        self.assertEqual(changed.returncode, 1)
        self.assertIn("iterations: was 4, is 8", changed.stderr)


if __name__ == "__main__":
    tf.test.main()
