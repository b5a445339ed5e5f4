import json
import pathlib
from unittest import mock

import tensorflow as tf

from pixpro_keras.visualize import plots


def panels_by_title(figure):
    return {panel.get_title("left"): panel for panel in figure.axes}


class PlotMetricsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.create_tempdir().full_path)

    def plot(self, records, loss_bounds=None, rest=""):
        """Panels of the figure that is saved, by title."""
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (self.folder / "metrics.jsonl").write_text(lines + rest)
        figures = []
        with mock.patch.object(plots, "save_figure", lambda figure, path: figures.append(figure)):
            plots.plot_metrics(self.folder / "metrics.jsonl", self.folder / "p.png", loss_bounds)
        return panels_by_title(figures[0])

    def test_curves_hold_the_values(self):
        records = [
            {"step": 10, "epoch": 0.5, "loss": -1.0, "images_per_second": 9.0, "updates": 10},
            {"step": 20, "epoch": 1.0, "loss": -2.5, "images_per_second": 8.0, "updates": 20},
        ]
        panels = self.plot(records)
        self.assertEqual(list(panels), ["loss", "images/s"])
        self.assertAllEqual(panels["loss"].lines[0].get_xydata(), [[10, -1.0], [20, -2.5]])
        self.assertAllEqual(panels["images/s"].lines[0].get_ydata(), [9.0, 8.0])

    def test_bounds_of_the_only_term(self):
        records = [{"step": k, "epoch": k, "loss": -1.0, "pixel": -1.0} for k in (1, 2)]
        panels = self.plot(records, {"pixel": (-4.0, 4.0)})
        self.assertEqual(list(panels), ["loss"])  # The term is the loss itself.
        self.assertEqual(panels["loss"].get_title("right"), "in [-4, 4]")

    def test_axes_are_fitted_and_begin_at_step_0(self):
        records = [{"step": k, "epoch": k, "loss": -1.0 - k / 100, "pixel": -1.0} for k in (10, 20)]
        panel = self.plot(records, {"pixel": (-4.0, 4.0)})["loss"]
        self.assertEqual(panel.get_xlim()[0], 0)
        low, high = panel.get_ylim()
        self.assertTrue(-1.3 < low < high < -1)

    def test_a_count_that_stays_zero_has_no_chart(self):
        records = [{"step": k, "epoch": k, "loss": 1.0, "bad_steps": 0} for k in (1, 2)]
        self.assertEqual(list(self.plot(records)), ["loss"])
        records[1]["bad_steps"] = 1
        self.assertEqual(list(self.plot(records)), ["loss", "steps skipped, not finite"])

    def test_evaluations_have_a_chart(self):
        records = [{"step": 1, "epoch": 1, "loss": 1.0}]
        evaluations = {"k-NN": {"random": 0.1, "pre-trained": 0.2}, "linear": {"random": 0.3}}
        panel = plots.draw_metrics({"": records}, {}, evaluations).axes[-1]
        texts = [text.get_text() for text in panel.texts]
        self.assertEqual(texts, ["10.0", "20.0", "30.0", "k-NN", "linear"])

    def test_bounds_of_several_terms(self):
        record = {"step": 1, "epoch": 1.0, "loss": 1.0, "pixel": -1.0, "instance": 2.0}
        panels = self.plot([record], {"pixel": (-4.0, 4.0), "instance": (0.0, None)})
        bounds = {title: panel.get_title("right") for title, panel in panels.items()}
        self.assertEqual(
            bounds, {"loss": "at least -4", "instance": "at least 0", "pixel": "in [-4, 4]"}
        )

    def test_bounds_of_several_runs(self):
        runs = {
            "one": [{"step": k, "loss": -k, "pixel": -k} for k in (1, 2)],
            "two": [{"step": k, "loss": k, "instance": k} for k in (1, 2)],
            "three": [{"step": k, "loss": 3 * k} for k in (1, 2)],
        }
        bounds = {"one": {"pixel": (-4.0, 4.0)}, "two": {"instance": (-4.0, 9.0)}}
        figure = plots.draw_metrics(runs, bounds)
        panels = panels_by_title(figure)
        self.assertEqual(list(panels), ["loss"])  # the terms of each run are its loss itself
        one, two, three = panels["loss"].lines
        self.assertAllEqual(two.get_xydata(), [[1, 1], [2, 2]])
        self.assertLen({one.get_color(), two.get_color(), three.get_color()}, 3)
        self.assertEqual(panels["loss"].get_title("right"), "one: in [-4, 4]\ntwo: in [-4, 9]")
        (legend,) = figure.legends
        self.assertEqual([text.get_text() for text in legend.get_texts()], list(runs))

    def test_unfinished_line_and_missing_values(self):
        records = [
            {"step": 1, "epoch": 1.0, "loss": 1.0},
            {"step": 2, "epoch": 2.0, "loss": float("nan"), "accuracy": 0.5},
        ]
        panels = self.plot(records, rest='{"step": 3, "ep')
        self.assertLen(panels["loss"].lines[0].get_xdata(), 2)
        self.assertAllEqual(panels["accuracy"].lines[0].get_xydata(), [[2.0, 0.5]])

    def test_writes_a_picture(self):
        self.plot([{"step": 1, "epoch": 1.0, "loss": 1.0, "feature_std": 0.5}])
        plots.plot_metrics(self.folder / "metrics.jsonl", self.folder / "p.png")
        picture = tf.io.decode_png((self.folder / "p.png").read_bytes(), channels=3)
        self.assertEqual(picture.shape[1], 1200)
        self.assertGreater(int(tf.math.reduce_std(tf.cast(picture, tf.float32))), 5)

    def test_bad_files(self):
        with self.assertRaises(FileNotFoundError):
            plots.plot_metrics(self.folder / "absent.jsonl", self.folder / "p.png")
        (self.folder / "empty.jsonl").write_text('{"step"')
        with self.assertRaisesRegex(ValueError, "`metrics_path`.*empty.jsonl"):
            plots.plot_metrics(self.folder / "empty.jsonl", self.folder / "p.png")
        (self.folder / "bare.jsonl").write_text('{"step": 1, "epoch": 0.5}\n')
        with self.assertRaisesRegex(
            ValueError, "bare.jsonl.*a metric to draw. Received: epoch, step"
        ):
            plots.plot_metrics(self.folder / "bare.jsonl", self.folder / "p.png")


if __name__ == "__main__":
    tf.test.main()
