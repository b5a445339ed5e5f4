import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

from pixpro_keras.training import workdir
from pixpro_keras.training.workdir import LOCK_FILE, RunLock, WorkdirInUseError, open_workdir

# Another process, which says when it has the lock and does not give it back.
_HOLDER = """
import fcntl, os, sys, time
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(handle, fcntl.LOCK_EX)
os.write(handle, sys.argv[2].encode())
print("locked", flush=True)
time.sleep(60)
"""
OTHER = {"host": "node7", "process": 12, "since": "yesterday", "count": 3}


class RunLockTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file = self.folder / LOCK_FILE
        self.enterContext(mock.patch.object(workdir, "_BEAT_SECONDS", 0.05))

    def lock(self):
        lock = RunLock(self.folder)
        lock.acquire()
        self.addCleanup(lock.release)
        return lock

    def without_system_locks(self):
        refusal = OSError(fcntl.LOCK_EX, "no locks available")
        self.enterContext(mock.patch.object(fcntl, "flock", side_effect=refusal))

    def test_the_second_is_refused_and_told_by_whom(self):
        self.lock()
        with self.assertRaisesRegex(WorkdirInUseError, f"process {os.getpid()} on .*, since 2"):
            RunLock(self.folder).acquire()

    def test_leaves_nothing(self):
        for _ in range(2):
            lock = RunLock(self.folder)
            lock.acquire()
            lock.release()
        self.assertEqual(os.listdir(self.folder), [])

    def test_another_process_keeps_it_until_it_dies(self):
        held = json.dumps(OTHER | {"host": workdir.socket.gethostname()})
        process = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, self.file, held], stdout=subprocess.PIPE
        )
        self.addCleanup(process.stdout.close)
        process.stdout.readline()
        with self.assertRaisesRegex(WorkdirInUseError, "process 12 on"):
            RunLock(self.folder).acquire()
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertTrue(self.file.exists())
        with mock.patch.object(RunLock, "_watch", side_effect=AssertionError("waits")):
            self.lock()

    def test_shows_that_it_lives(self):
        self.lock()
        before = self.file.read_bytes()
        deadline = time.monotonic() + 5
        while self.file.read_bytes() == before:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        self.assertEqual(json.loads(self.file.read_bytes())["process"], os.getpid())

    def test_a_dead_process_of_another_host_is_waited_for(self):
        self.file.write_text(json.dumps(OTHER))
        with self.assertLogs(level="WARNING") as logs:
            self.lock()
        self.assertIn("process 12 on node7: waiting 0.125 seconds", logs.output[0])

    def test_a_living_process_of_another_host_keeps_it(self):
        self.file.write_text(json.dumps(OTHER))
        text = json.dumps(OTHER | {"count": 4})
        heart = threading.Timer(0.05, self.file.write_text, [text])
        heart.start()
        self.addCleanup(heart.join)
        with self.assertRaisesRegex(WorkdirInUseError, "process 12 on node7, since yesterday"):
            RunLock(self.folder).acquire()

    def test_a_disk_without_locks_has_the_sign_of_life(self):
        self.without_system_locks()
        lock = self.lock()
        with self.assertRaisesRegex(WorkdirInUseError, f"process {os.getpid()}"):
            RunLock(self.folder).acquire()
        self.assertTrue(lock._is_current())

    def test_a_disk_without_locks_and_a_dead_process(self):
        self.without_system_locks()
        self.file.write_text(json.dumps(OTHER))
        self.lock()
        self.assertEqual(json.loads(self.file.read_text())["process"], os.getpid())

    def test_what_is_no_lock_file_counts_for_nothing(self):
        self.file.write_text("half writ")
        self.lock()


class OpenWorkdirTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def fail_in(self, path, *names):
        with self.assertRaises(KeyboardInterrupt), open_workdir(path) as opened:
            for name in names:
                (opened / name).parent.mkdir(exist_ok=True)
                (opened / name).write_text("")
            raise KeyboardInterrupt

    def test_two_at_once(self):
        with (
            open_workdir(self.folder),
            self.assertRaises(WorkdirInUseError),
            open_workdir(self.folder),
        ):
            pass
        self.assertEqual(os.listdir(self.folder), [])

    def test_only_the_chief_locks(self):
        worker = mock.patch.object(workdir, "is_chief", return_value=False)
        with worker, open_workdir(self.folder), open_workdir(self.folder) as opened:
            self.assertEqual(os.listdir(opened), [])

    def test_a_failed_start_takes_its_folders_away(self):
        self.fail_in(self.folder / "runs" / "one", "flags.cfg", "devices.json", "history.json")
        self.assertEqual(os.listdir(self.folder), [])

    def test_charts_and_pictures_of_no_step_go_with_it(self):
        start = (
            "flags.cfg",
            "events.out.tfevents.1.vm.2.0.scalars",
            "pictures/correspondences.png",
        )
        self.fail_in(self.folder / "one", *start, "pictures/similarity_0000000.png")
        self.assertEqual(os.listdir(self.folder), [])
        for left in ("pictures/similarity_0000010.png", "checkpoints/ckpt-1.index"):
            run = self.folder / left.partition("/")[0]
            self.fail_in(run, *start, left)
            for name in (*start, left):
                self.assertTrue((run / name).exists(), msg=name)

    def test_a_failed_start_leaves_an_empty_folder_empty(self):
        self.fail_in(self.folder, "flags.cfg")
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_failed_start_leaves_only_the_network_with_which_it_would_begin(self):
        (self.folder / workdir.INITIAL_FILE).write_text("network")
        self.fail_in(self.folder, "flags.cfg", "pictures/correspondences.png")
        self.assertEqual(os.listdir(self.folder), [workdir.INITIAL_FILE])
        self.fail_in(self.folder, "flags.cfg", "metrics.jsonl")
        left = ["flags.cfg", workdir.INITIAL_FILE, "metrics.jsonl"]
        self.assertEqual(sorted(os.listdir(self.folder)), left)

    def test_what_a_run_leaves_stays(self):
        self.fail_in(self.folder / "one", "flags.cfg", "metrics.jsonl")
        self.assertEqual(sorted(os.listdir(self.folder / "one")), ["flags.cfg", "metrics.jsonl"])

    def test_what_was_there_stays(self):
        (self.folder / "flags.cfg").write_text("")
        self.fail_in(self.folder)
        self.assertEqual(os.listdir(self.folder), ["flags.cfg"])

    def test_a_successful_run_stays(self):
        with open_workdir(self.folder / "one"):
            pass
        self.assertEqual(os.listdir(self.folder), ["one"])

    def test_a_path_that_cannot_be(self):
        with self.assertRaises(OSError), open_workdir("/dev/null/run"):
            pass


if __name__ == "__main__":
    unittest.main()
