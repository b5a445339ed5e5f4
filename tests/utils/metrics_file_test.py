import pathlib

from absl.testing import absltest

from pixpro_keras.utils.metrics_file import read_measured, read_metrics


class ReadMetricsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(self.create_tempdir().full_path) / "metrics.jsonl"

    def test_an_unfinished_line_is_left_out(self):
        self.path.write_text('{"step": 1}\n{"step": 2}\n{"st')
        self.assertEqual(read_metrics(self.path), [{"step": 1}, {"step": 2}])

    def test_evaluations_are_told_from_metrics(self):
        lines = (
            '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0, "ap": 0.5, "measured": ["ap"]}\n'
        )
        self.path.write_text(lines)
        self.assertEqual(read_measured(self.path), [{"step": 2, "ap": 0.5}])
        self.assertEqual(read_metrics(self.path)[1], {"step": 2, "loss": 1.0, "ap": 0.5})

    def test_no_file(self):
        with self.assertRaises(FileNotFoundError):
            read_metrics(self.path)


if __name__ == "__main__":
    absltest.main()
