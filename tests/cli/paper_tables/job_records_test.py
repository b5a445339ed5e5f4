import tensorflow as tf

from pixpro_keras.cli.options import parsing
from pixpro_keras.cli.options.segment_options import SegmentOptions
from pixpro_keras.cli.paper_tables.job_records import (
    Record,
    differences,
    is_finished,
    resolved_flags,
    set_aside,
)
from pixpro_keras.cli.paper_tables.jobs import Job
from tests.helpers.fake_jobs import Fakes, finish_by_hand


class RecordsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.fakes = Fakes(self.create_tempdir().full_path)

    def record(self, job, **values):
        folder = self.fakes.places.folder(job)
        folder.mkdir(parents=True, exist_ok=True)
        Record(resolved_flags(job), **values).write(folder)

    def test_presets_are_resolved_and_the_last_value_wins(self):
        preset = "--flagfile=experiments/configs/pretrain/pixpro_noppm_r50_100ep.cfg"
        values = resolved_flags(Job("x", "pretrain", (preset, "--epochs=3", "--fpn")))
        self.assertEqual(values["backbone"], "resnet50_v1_5")  # of the preset's own preset
        self.assertEqual(values["propagation"], "false")
        self.assertEqual((values["epochs"], values["fpn"]), ("3", "true"))
        self.assertNotIn("flagfile", values)

    def test_says_what_changed(self):
        first = self.fakes.job("one/pretrain", "--epochs=1", "--jitter=2")
        voc = self.fakes.job("one/voc", "--size=2", after=first)
        self.assertEqual(differences(voc, self.fakes.places), [])
        self.record(first)
        self.record(voc)
        self.assertEqual(differences(first, self.fakes.places), [])
        self.assertEqual(differences(voc, self.fakes.places), [])
        other = self.fakes.job("one/pretrain", "--epochs=2")
        expected = ["epochs: was 1, is 2", "jitter: was 2, is not given"]
        self.assertEqual(differences(other, self.fakes.places), expected)
        voc = self.fakes.job("one/voc", "--size=2", after=other)
        expected = [f"pretrain {one}" for one in expected]
        self.assertEqual(differences(voc, self.fakes.places), expected)

    def test_a_transfer_is_of_one_run_of_its_pre_training(self):
        first = self.fakes.job("one/pretrain")
        voc = self.fakes.job("one/voc", after=first)
        self.record(first, finished="monday")
        self.record(voc, pretrained="monday")
        self.assertEqual(differences(voc, self.fakes.places), [])
        self.record(first, finished="tuesday")
        expected = ["its pre-training has run again since"]
        self.assertEqual(differences(voc, self.fakes.places), expected)

    def test_a_job_that_ran_by_hand(self):
        job = self.fakes.job("one/voc", "--weight_decay=1e-4", "--dataset=voc:{data}/voc")
        finish_by_hand(self.fakes.places, job, {"AP": 0.1})
        self.assertEqual(differences(job, self.fakes.places), [])
        self.assertTrue(is_finished(job, self.fakes.places))
        other = self.fakes.job("one/voc", "--weight_decay=1e-3", "--seed=1")
        expected = ["weight_decay: was 0.0001, is 1e-3", "seed: was not given, is 1"]
        self.assertEqual(differences(other, self.fakes.places), expected)

    def segment_by_hand(self, name, *flags):
        """Writes the flags that a segmentation which ran by hand leaves; returns its folder."""
        folder = self.fakes.places.workdir / name
        folder.mkdir(parents=True)
        options, _ = parsing.parse(SegmentOptions, ["--dataset=folder:camvid", *flags])
        parsing.write_flags(options.replace(test_split="val"), folder)

    def test_flags_that_were_added_by_hand_are_seen(self):
        planned = ("--dataset=folder:camvid", "--backbone=resnet18_v1_5", "--precision=auto")
        job = Job("scratch/seed0/cells", "segment", planned)
        self.segment_by_hand(job.name, *planned[1:2], "--precision=float32", "--epochs=3")
        self.assertEqual(differences(job, self.fakes.places), [])
        job = Job("scratch/seed1/cells", "segment", planned)
        self.segment_by_hand(job.name, *planned[1:2], "--weights=runs/mine", "--crop_size=100")
        self.assertCountEqual(
            differences(job, self.fakes.places),
            ["weights: was runs/mine, is not given", "crop_size: was 100, is not given"],
        )

    def test_a_pre_training_that_ran_by_hand_is_compared_for_its_transfers(self):
        ran, planned = (self.fakes.job("one/pretrain", f"--epochs={n}") for n in (1, 2))
        finish_by_hand(self.fakes.places, ran, {})
        voc = self.fakes.job("one/voc", "--seed=0", after=planned)
        finish_by_hand(self.fakes.places, voc, {"AP": 0.1})
        expected = ["pretrain epochs: was 1, is 2"]
        self.assertEqual(differences(voc, self.fakes.places), expected)

    def test_what_is_set_aside_stays(self):
        job = self.fakes.job("one/voc")
        for number in (1, 2):
            self.record(job)
            old = set_aside(self.fakes.places.folder(job))
            self.assertEqual(old.name, f"voc.old{number}")
            self.assertTrue((old / "job.json").exists())
            self.assertFalse(self.fakes.places.folder(job).exists())


if __name__ == "__main__":
    tf.test.main()
