import json
import os
import pathlib
import time
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pixpro_keras.training import track_run

CONFIG = {"batch_size": 4, "dataset": "folder:photos"}


def write_run(folder):
    """Files of a finished run, but for its pictures."""
    (folder / "export").mkdir(exist_ok=True)
    (folder / "export" / "README.md").write_text("the card")
    (folder / "flags.cfg").write_text("--seed=0\n")
    (folder / "detect.md").write_text("| AP |")
    (folder / "detect.json").write_text(
        '{"box AP": 0.5, "backbone": "random", "classes": [{"AP": 1}]}'
    )


def write_picture(file, value):
    file.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, "uint8")).save(file)


def track(folder, name):
    """A run of two logged steps, with pictures."""
    with track_run(name, folder, CONFIG) as tracker:
        write_picture(folder / "pictures" / "similarity_0000010.png", 1)
        tracker.log(10, {"train/loss": 0.5, "train/feature_rank": float("nan")})
        tracker.log(20, {"train/loss": 0.25})
        write_picture(folder / "curves.png", 2)
        write_run(folder)
        return tracker.run_id


class TrackersTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    @pytest.mark.slow
    def test_wandb_offline(self):
        pytest.importorskip(
            "wandb", reason="wandb is not installed: pip install 'pixpro-keras[wandb]'"
        )
        with mock.patch.dict(os.environ, {"WANDB_MODE": "offline"}):
            run_id = track(self.folder, "wandb")
            (folder,) = (self.folder / "wandb").glob("offline-run-*")
            # Protocol buffers, whose strings stand in the file as they are. wandb's service may write them
            # a moment after it has finished a run.
            file = folder / f"run-{run_id}.wandb"
            for _ in range(100):
                log = file.read_bytes()
                if b"detect.md" in log:
                    break
                time.sleep(0.1)
            said = ("train/loss", "0.25", "eval/box AP", "batch_size", "folder:photos")
            for text in (*said, "flags.cfg", "README.md", "detect.md"):
                self.assertIn(text.encode(), log)
            images = {path.name.partition("_")[0] for path in folder.glob("files/media/images/*/*")}
            self.assertEqual(images, {"curves", "similarity"})
            # The run that goes on is the same.
            self.assertEqual(track(self.folder, "wandb"), run_id)

    @pytest.mark.slow
    def test_mlflow_in_a_file(self):
        mlflow = pytest.importorskip(
            "mlflow", reason="mlflow is not installed: pip install 'pixpro-keras[mlflow]'"
        )
        with mock.patch.dict(os.environ):
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            run_id = track(self.folder, "mlflow")
            self.assertEqual(track(self.folder, "mlflow"), run_id)
        self.assertEqual(json.loads((self.folder / "tracker.json").read_text()), {"mlflow": run_id})
        client = mlflow.MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        run = client.get_run(run_id)
        self.assertEqual((run.info.status, run.info.run_name), ("FINISHED", self.folder.name))
        self.assertEqual(run.data.params["dataset"], "folder:photos")
        self.assertEqual(run.data.metrics["eval/box AP"], 0.5)
        losses = client.get_metric_history(run_id, "train/loss")
        self.assertEqual([(x.step, x.value) for x in losses][:2], [(10, 0.5), (20, 0.25)])
        files = {
            file.path
            for part in ("", "export", "pictures")
            for file in client.list_artifacts(run_id, part)
        }
        self.assertContainsSubset(
            {
                "flags.cfg",
                "export/README.md",
                "pictures/curves.png",
                "pictures/similarity_0000010.png",
            },
            files,
        )

    def test_a_tracker_that_fails_ends_no_run(self):
        from pixpro_keras.training import Tracker

        class Broken(Tracker):
            run_id = "1"

            def send_scalars(self, step, values):
                raise RuntimeError("no network")

            send_picture = send_file = end = send_scalars

        tracker = Broken(self.folder)
        with self.assertLogs("absl", "WARNING") as logs:
            tracker.log(1, {})
            tracker.log(2, {})
            tracker.finish(is_complete=True)
        self.assertLen(logs.output, 1)
        self.assertIn("Broken is no longer updated, or incomplete", logs.output[0])

    def test_an_unknown_tracker_is_named(self):
        message = "`name` must be one of wandb, mlflow. Received: name='tensorboard'"
        with self.assertRaisesRegex(ValueError, message), track_run("tensorboard", self.folder, {}):
            pass

    def test_a_package_that_is_missing(self):
        for name in ("wandb", "mlflow"):
            with (
                mock.patch.dict("sys.modules", {name: None}),
                self.assertRaisesRegex(ImportError, rf"pip install 'pixpro-keras\[{name}\]'"),
                track_run(name, self.folder, CONFIG),
            ):
                pass
        self.assertEmpty(list(self.folder.iterdir()))


if __name__ == "__main__":
    tf.test.main()
