import json
import pathlib

import numpy as np
import tensorflow as tf

from pixpro_keras.cli.paper_tables.jobs import Places, Planner, columns_of
from pixpro_keras.cli.paper_tables.report import write_report
from pixpro_keras.cli.paper_tables.results import gather, summarize
from pixpro_keras.cli.paper_tables.scales import SCALES
from pixpro_keras.cli.paper_tables.tables import TABLES
from tests.helpers.fake_jobs import finish_by_hand
from tests.helpers.jobs import ROOT
from tests.helpers.tables import unpadded


class ResultsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.places = Places(pathlib.Path(self.create_tempdir().full_path), "/data")
        self.table, scale = TABLES[3], SCALES["small"]
        self.planner = Planner(scale, {}, has_data=True)
        self.bccd = scale.transfer("bccd")

    def test_mean_and_range(self):
        rng = np.random.default_rng(0)
        values = rng.uniform(size=5)
        found = summarize(dict(enumerate(values)))
        self.assertAllClose(found["mean"], 100 * np.mean(values))
        expected = (100 * values.min(), 100 * values.max())
        self.assertAllClose((found["lowest"], found["highest"]), expected)
        self.assertAllClose([found["seeds"][seed] for seed in range(5)], 100 * values)
        self.assertIsNone(summarize({})["mean"])

    def test_gathers_seeds_beside_the_papers_numbers(self):
        row = self.table.rows_at(SCALES["paper"])[-1]
        for seed, ap in ((0, 0.1), (1, 0.2), (7, 0.6)):
            job = self.planner.transfer(row, self.bccd, seed)
            finish_by_hand(self.places, job, {"AP": ap, "AP50": 0.5, "AP75": float("nan")})
        other = Planner(self.planner.scale, {"bccd": ["--iterations=9"]}, has_data=True)
        job = other.transfer(self.table.rows[0], self.bccd, 0)
        finish_by_hand(self.places, job, {"AP": 0.9})

        found = gather(self.table, self.planner, self.places, [0, 1])
        cell = found["rows"][-2]["cells"]["bccd"]
        self.assertEqual(cell["AP"]["paper"], 58.8)
        self.assertAllClose(cell["AP"]["mean"], 30.0)
        self.assertAllClose((cell["AP"]["lowest"], cell["AP"]["highest"]), (10.0, 60.0))
        self.assertIsNone(cell["AP75"]["mean"])
        self.assertIsNone(found["rows"][0]["cells"]["bccd"]["AP"]["mean"])
        states = {run["job"]: run["state"] for run in found["runs"]}
        self.assertEqual(states["pixpro/seed7/bccd"], "finished")
        self.assertEqual(states["pixcontrast_tau01/seed0/bccd"], "other flags")

        file = write_report(self.places.workdir, found, "python x.py")
        text = unpadded(file.read_text())
        (line,) = (x for x in text.splitlines() if x.startswith("| PixPro |") and "40.8" in x)
        self.assertIn("| 58.8 | 30.0 (10.0 to 60.0) | 40.8 | not run |", line)
        self.assertIn("[flags.cfg](pixpro/seed7/bccd/flags.cfg)", text)
        stored = json.loads(file.with_suffix(".json").read_text())
        self.assertEqual(stored["rows"][-2]["cells"]["bccd"]["AP"]["seeds"]["7"], 60.0)
        self.assertTrue(file.with_suffix(".png").read_bytes().startswith(b"\x89PNG"))

    def test_the_papers_numbers_are_those_of_the_presets_readme(self):
        text = (ROOT / "experiments" / "configs" / "README.md").read_text()
        for table in TABLES.values():
            lines = [x for x in text.splitlines() if x.startswith(f"| {table.number}: ")]
            rows = [
                row
                for row in table.rows_at(SCALES["paper"])
                if (table.number, row.label) != (4, "PixPro")
            ]
            self.assertLen(lines, len(rows))
            for row, line in zip(rows, lines, strict=True):
                self.assertIn(" / ".join(map(str, table.paper_numbers(row, "voc"))), line)
                self.assertIn(str(table.paper_numbers(row, "coco_fpn")[0]), line)

    def test_paper_numbers_fit_their_columns(self):
        for table in TABLES.values():
            for transfer in columns_of(table, SCALES["paper"]):
                for row in table.rows_at(SCALES["paper"]):
                    paper = table.paper_numbers(row, transfer.name)
                    self.assertBetween(len(paper), 1, len(transfer.numbers))


if __name__ == "__main__":
    tf.test.main()
