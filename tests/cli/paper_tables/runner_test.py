import pathlib
import signal
import subprocess
import sys
from unittest import mock

import tensorflow as tf

from pixpro_keras.cli.paper_tables import runner
from pixpro_keras.cli.paper_tables.job_records import read_record
from pixpro_keras.cli.paper_tables.runner import Runner
from tests.helpers.fake_jobs import Fakes
from tests.helpers.jobs import ROOT

# In a process of its own, which the signal is for.
_SIGNALLED = """
import sys
from tests.helpers.fake_jobs import Fakes
from pixpro_keras.cli.paper_tables.runner import Runner

fakes = Fakes(sys.argv[1])
first = fakes.job("first", f"--signal={sys.argv[2]}")
second = fakes.job("second")
sys.exit(Runner(fakes.places, "", lambda: None).run([first, second]))
"""


class RunnerTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.fakes = Fakes(self.create_tempdir().full_path)
        self.reports = 0

    def run_jobs(self, *jobs):
        def count():
            self.reports += 1

        return Runner(self.fakes.places, "abc", count).run(jobs)

    def test_runs_what_is_not_finished(self):
        first = self.fakes.job("one/pretrain")
        second = self.fakes.job("one/voc", after=first)
        self.assertEqual(self.run_jobs(first, second), 0)
        self.assertEqual(self.reports, 2)
        self.assertEqual(self.run_jobs(first, second), 0)
        self.assertEqual([self.fakes.times_run(job) for job in (first, second)], [1, 1])
        record = read_record(self.fakes.places.folder(second))
        self.assertEqual((record.exit_code, record.commit), (0, "abc"))
        self.assertGreater(record.seconds, 0)
        before = read_record(self.fakes.places.folder(first)).finished
        self.assertEqual(record.pretrained, before)
        log = (self.fakes.places.folder(second) / "log.txt").read_text()
        self.assertIn("fake.py --workdir=", log)

    def test_a_failed_job_does_not_stop_the_others(self):
        mended = self.fakes.root / "mended"
        first = self.fakes.job("one/pretrain", f"--fail={mended}")
        waits = self.fakes.job("one/voc", after=first)
        other = self.fakes.job("two/pretrain")
        self.assertEqual(self.run_jobs(first, waits, other), 1)
        jobs = (first, waits, other)
        self.assertEqual([self.fakes.times_run(job) for job in jobs], [1, 0, 1])
        self.assertEqual(read_record(self.fakes.places.folder(first)).exit_code, 1)
        mended.touch()
        self.assertEqual(self.run_jobs(first, waits, other), 0)
        self.assertEqual([self.fakes.times_run(job) for job in jobs], [2, 1, 1])

    def test_a_result_of_a_job_that_failed_later_does_not_count(self):
        job = self.fakes.job("one", "--fail=/nowhere")
        folder = self.fakes.places.folder(job)
        folder.mkdir(parents=True)
        self.assertEqual(self.run_jobs(job), 1)
        (folder / job.result).write_text("{}")
        self.assertEqual(self.run_jobs(job), 1)
        self.assertEqual(self.fakes.times_run(job), 2)

    def test_an_installed_package_has_no_commit(self):
        inside = self.create_tempdir().full_path
        subprocess.run(["git", "init", "--quiet", inside], check=True)
        commit = ["commit", "--quiet", "--allow-empty", "--message=of someone else"]
        name = ["-c", "user.name=someone", "-c", "user.email=someone@else"]
        subprocess.run(["git", "-C", inside, *name, *commit], check=True)
        packages = pathlib.Path(inside) / "site-packages"
        packages.mkdir()
        with mock.patch.object(runner, "ROOT", packages):
            self.assertEqual(runner.commit_of_code(), "")

    def test_signals_reach_the_job_and_the_same_command_goes_on(self):
        for number, expected in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            root = self.create_tempdir().full_path
            command = [sys.executable, "-c", _SIGNALLED, root, str(int(number))]
            first = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
            self.assertEqual(first.returncode, expected, first.stderr)
            self.assertIn("The same command continues", first.stdout)
            fakes = Fakes(root)
            jobs = [fakes.job("first", f"--signal={int(number)}"), fakes.job("second")]
            self.assertEqual([fakes.times_run(job) for job in jobs], [1, 0])
            folder = fakes.places.folder(jobs[0])
            self.assertIn("saved", (folder / "log.txt").read_text())
            self.assertEqual(read_record(folder).exit_code, 143)
            seconds = read_record(folder).seconds
            self.assertEqual(Runner(fakes.places, "", lambda: None).run(jobs), 0)
            self.assertEqual([fakes.times_run(job) for job in jobs], [2, 1])
            self.assertGreater(read_record(folder).seconds, seconds)


if __name__ == "__main__":
    tf.test.main()
