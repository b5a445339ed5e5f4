import tensorflow as tf

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
