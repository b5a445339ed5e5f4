import json
import pathlib

import pytest
import tensorflow as tf

from pixpro_keras.training.callbacks import RunLog
from pixpro_keras.training.callbacks.run_log import chart_name, describe_bounds
from tests.helpers.full_disk import largest_file
from tests.helpers.steps import build
from tests.helpers.tiny_runs import STEPS, StopAt, run


class RunLogTest(tf.test.TestCase):
    @pytest.mark.slow
    def test_lines_after_a_resume_are_in_order(self):
        folder = self.create_tempdir().full_path
        model = build()
        log = lambda: RunLog(folder, STEPS, 2, model.loss_bounds)  # noqa: E731
        run(model, [log(), StopAt(8)])
        model.step.assign(4)  # as if the last checkpoint had been at step 4
        run(model, [log()])
        with open(f"{folder}/metrics.jsonl") as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual([line["step"] for line in lines], [2, 4, 6, 8, 10, 12])
        self.assertEqual(lines[-1]["epoch"], 3.0)
        expected = {"loss", "pixel", "positive_share", "positive_cosine", "feature_std"}
        expected |= {"learning_rate", "target_momentum", "images_per_second", "input_wait_share"}
        self.assertContainsSubset(expected | {"memory_mib"}, lines[0])

    def test_charts_are_in_groups_and_describe_the_bounds(self):
        bounds = {"pixel": (-4.0, 4.0), "instance": (0.0, None)}
        self.assertEqual(describe_bounds("pixel", bounds), "in [-4, 4]")
        self.assertEqual(describe_bounds("instance", bounds), "in [0, inf]")
        self.assertIsNone(describe_bounds("loss", bounds))
        self.assertEqual(describe_bounds("loss", {"pixel": (None, 0.0)}), "in [-inf, 0]")
        self.assertEqual(chart_name("learning_rate"), "train/learning_rate")
        folder, sunk = pathlib.Path(self.create_tempdir().full_path), []
        log = RunLog(
            folder,
            4,
            1,
            bounds,
            [lambda step: {"knn_top1": 0.5}],
            sinks=[lambda step, values: sunk.append((step, values))],
            flags="--seed=0\n--epochs=1",
        )
        log.on_train_begin({"step": 0})
        log.on_train_batch_end(0, {"step": 1, "pixel": -1.0, "images_per_second": 2.0})
        log.on_train_end({"step": 1})
        names = {"train/pixel", "speed/images_per_second", "speed/memory_mib", "eval/knn_top1"}
        self.assertEqual([(step, set(values)) for step, values in sunk], [(1, names)])
        charts = {}
        for events in folder.glob("events.out.tfevents.*"):
            for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                charts |= {value.tag: value for value in event.summary.value}
        self.assertEqual(set(charts), {*names, "flags"})
        metadata = charts["train/pixel"].metadata
        self.assertEqual(metadata.summary_description, "in [-4, 4]")
        self.assertEqual(charts["flags"].tensor.string_val[0], b"    --seed=0\n    --epochs=1")
        line = json.loads((folder / "metrics.jsonl").read_text())
        self.assertEqual(
            set(line),
            {"step", "epoch", "pixel", "images_per_second", "memory_mib", "knn_top1", "measured"},
        )
        self.assertEqual(line["measured"], ["knn_top1"])

    def test_lines_wait_until_they_can_be_written(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        log = RunLog(folder, 4, 1, {"square": (0.0, None)})
        log.on_train_begin({"step": 0})
        log.on_train_batch_end(0, {"step": 1, "loss": 1.0})
        file = folder / "metrics.jsonl"
        with largest_file(file.stat().st_size + 5), self.assertLogs("absl", "WARNING") as logs:
            log.on_train_batch_end(1, {"step": 2, "loss": 1.0})
            log.on_train_batch_end(2, {"step": 3, "loss": float("nan")})
            self.assertLen(file.read_text().splitlines(), 1)
        self.assertIn("metrics.jsonl cannot be written, the run continues", logs.output[0])
        log.on_train_batch_end(3, {"step": 4, "loss": 1.0})
        log.on_train_end({"step": 4})
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], [1, 2, 3, 4])
        self.assertEqual([line["loss"] for line in lines], [1.0, 1.0, None, 1.0])
        steps = set()
        for events in folder.glob("events.out.tfevents.*"):
            for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(record)
                steps |= {event.step} if event.summary.value else set()
        self.assertEqual(steps, {1, 4})


if __name__ == "__main__":
    tf.test.main()
