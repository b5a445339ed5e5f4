import shlex

import tensorflow as tf

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.paper_tables.job_records import read_record
from pixpro_keras.cli.paper_tables.submit import check_template, job_id, submit_jobs
from tests.helpers.fake_jobs import Fakes, finish_by_hand


class SubmitTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.fakes = Fakes(self.create_tempdir().full_path)
        self.calls = self.fakes.root / "calls"
        self.cluster = self.fakes.root / "sbatch"
        self.cluster.write_text(
            f'#!/bin/sh\nfor word; do echo "$word" >> {self.calls}; done\n'
            f"echo -- >> {self.calls}\n"
            f'echo Submitted batch job "$(grep -c ^--$ {self.calls})"\n'
        )
        self.cluster.chmod(0o755)
        self.first = self.fakes.job("one/pretrain")
        self.voc = self.fakes.job("one/voc", "--name=a b", after=self.first)

    def submit(self, template, *jobs):
        words = check_template(f"{self.cluster} {template}")
        return submit_jobs(words, jobs, self.fakes.places, "abc")

    def words(self):
        return [call.split("\n")[:-1] for call in self.calls.read_text().split("--\n")[:-1]]

    def test_transfers_wait_for_their_pre_training(self):
        template = "--dependency=afterok:{after} --name={name} --wrap {command}"
        self.assertEqual(self.submit(template, self.first, self.voc), 0)
        first, voc = self.words()
        self.assertEqual(first[:2], ["--name=one/pretrain", "--wrap"])
        self.assertEqual(voc[:3], ["--dependency=afterok:1", "--name=one/voc", "--wrap"])
        command = shlex.split(voc[3])
        self.assertEqual(command[:3], ["python", f"{self.fakes.script}.py", "--name=a b"])
        self.assertEqual(read_record(self.fakes.places.folder(self.voc)).submitted, "2")
        # And not twice.
        self.assertEqual(self.submit(template, self.first, self.voc), 0)
        self.assertLen(self.words(), 2)

    def test_without_after_they_are_submitted_later(self):
        self.assertEqual(self.submit("{command}", self.first, self.voc), 0)
        self.assertLen(self.words(), 1)
        folder = self.fakes.places.folder(self.first)
        (folder / self.first.result).write_text("{}")
        self.assertEqual(self.submit("{command}", self.first, self.voc), 0)
        self.assertLen(self.words(), 2)

    def test_finished_ones_are_left_out(self):
        finish_by_hand(self.fakes.places, self.first, {})
        self.assertEqual(self.submit("{command} {after}", self.first, self.voc), 0)
        (voc,) = self.words()
        self.assertLen(voc, 1)

    def test_a_cluster_that_refuses(self):
        self.cluster.write_text("#!/bin/sh\nexit 3\n")
        self.assertEqual(self.submit("{command}", self.first), 1)
        self.assertIsNone(read_record(self.fakes.places.folder(self.first)))

    def test_ids(self):
        printed = ("Submitted batch job 12\n", "12;cluster\n", "12\n")
        self.assertEqual([job_id(text) for text in printed], ["12"] * 3)

    def test_a_command_with_the_word_of_a_placeholder_stays(self):
        job = self.fakes.job("one/other", "--title={name} {log}")
        self.assertEqual(self.submit("{command} {name}", job), 0)
        ((command, name),) = self.words()
        self.assertIn("--title={name} {log}", shlex.split(command))
        self.assertEqual(name, "one/other")

    def test_bad_templates(self):
        for template in ("sbatch --wrap", "sbatch 'x {command}"):
            with self.assertRaisesRegex(FlagError, "--submit=sbatch"):
                check_template(template)


if __name__ == "__main__":
    tf.test.main()
