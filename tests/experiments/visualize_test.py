import json
import pathlib

import tensorflow as tf

from tests.experiments.cli import run_job, write_photos


class VisualizeTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def test_pictures(self):
        photos = write_photos(self.folder / "photos", count=3)
        run = self.folder / "run"
        run.mkdir()
        lines = [{"step": n, "epoch": n / 2, "loss": -n} for n in range(3)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        names = ["similarity.png", "pca.png", "retrieval.png", "click_map.html", "curves.png"]
        result = run_job(
            "visualize.py",
            f"--dataset=folder:{photos}",
            "--backbone=resnet18_v1_5",
            "--image_size=64",
            "--level=c4",
            f"--runs={run}",
            f"--pictures={','.join(name.partition('.')[0] for name in names)}",
            f"--workdir={self.folder / 'out'}",
        )
        self.assertEqual(result.returncode, 0, msg=result.stderr)
        for name in names:
            self.assertGreater((self.folder / "out" / name).stat().st_size, 3000)
            self.assertIn(name, result.stdout)
        self.assertIn('"shape": [3, 4, 4, 256]', (self.folder / "out/click_map.html").read_text())

    def test_wrong_flags(self):
        for flags, message in (
            (["--pictures=curve"], "--pictures=curve: take similarity"),
            (["--pictures=curves"], "--runs must be given"),
            (["--pictures=curves", f"--runs={self.folder}"], "--runs=.*metrics.jsonl"),
            (["--pictures=pca"], "--dataset must be given"),
            ([f"--dataset=folder:{self.folder}"], "--dataset=.*no image"),
        ):
            result = run_job("visualize.py", *flags, f"--workdir={self.folder / 'out'}")
            self.assertEqual(result.returncode, 1)
            self.assertRegex(result.stderr, f"error: .*{message}")


if __name__ == "__main__":
    tf.test.main()
