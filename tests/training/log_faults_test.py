"""Logs, charts and pictures on a disk that takes no more: the run goes on."""

import contextlib
import json
import pathlib
import resource

import numpy as np
import tensorflow as tf

from pixpro_keras.training.callbacks import RunLog
from pixpro_keras.utils.files import append
from pixpro_keras.utils.summaries import Charts
from pixpro_keras.visualize.run_pictures import RunPictures


@contextlib.contextmanager
def largest_file(size):
    """No file may grow beyond a size: a full disk as root sees it, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class LogFaultsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def test_appends_all_or_nothing(self):
        file = self.folder / "a"
        append(file, b"0123456789")
        with largest_file(15), self.assertRaises(OSError):
            append(file, b"0123456789")
        self.assertEqual(file.read_bytes(), b"0123456789")
        with self.assertRaises(OSError):
            append("/dev/full", b"more")

    def test_lines_wait_until_they_can_be_written(self):
        log = RunLog(self.folder, 4, 1, {"square": (0.0, None)})
        log.on_train_begin({"step": 0})
        log.on_train_batch_end(0, {"step": 1, "loss": 1.0})
        file = self.folder / "metrics.jsonl"
        with largest_file(file.stat().st_size + 5), self.assertLogs("absl", "WARNING") as logs:
            log.on_train_batch_end(1, {"step": 2, "loss": 1.0})
            log.on_train_batch_end(2, {"step": 3, "loss": float("nan")})
            self.assertLen(file.read_text().splitlines(), 1)
        self.assertIn("metrics.jsonl cannot be written, the run goes on", logs.output[0])
        log.on_train_batch_end(3, {"step": 4, "loss": 1.0})
        log.on_train_end({"step": 4})
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], [1, 2, 3, 4])
        self.assertEqual([line["loss"] for line in lines], [1.0, 1.0, None, 1.0])
        steps = set()
        for events in self.folder.glob("events.out.tfevents.*"):
            for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                steps |= {event.step} if event.summary.value else set()
        self.assertEqual(steps, {1, 4})

    def test_charts_in_a_folder_that_cannot_be(self):
        (self.folder / "taken").write_text("a file")
        charts = Charts(self.folder / "taken", ".scalars")
        with self.assertLogs("absl", "WARNING") as logs:
            charts.write(3, lambda: tf.summary.scalar("loss", 1.0))
            charts.close()
        self.assertIn("No charts of step 3", logs.output[0])

    def test_pictures_in_a_folder_that_cannot_be(self):
        (self.folder / "pictures").write_text("a file")
        rng = np.random.default_rng(0)
        views = {f"view{i}": rng.random((2, 16, 16, 3)).astype("float32") for i in (1, 2)}
        coords = {f"coord{i}": np.array([[0, 0, 1, 1]] * 2, "float32") for i in (1, 2)}

        def encoder(images, training):
            return {"features": tf.nn.avg_pool2d(images, 4, 4, "VALID")}

        pictures = RunPictures(self.folder, views | coords, encoder, lambda x: x, 1, 0.7, 2.0)
        with self.assertLogs("absl", "WARNING") as logs:
            pictures.on_train_begin({"step": 0})
            pictures.on_train_batch_end(0, {"step": 1})
        self.assertIn("A picture cannot be written, the run goes on", logs.output[0])
        self.assertNotEmpty(list(self.folder.glob("events.out.tfevents.*")))


if __name__ == "__main__":
    tf.test.main()
