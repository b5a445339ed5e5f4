import contextlib
import io
import pathlib
import tempfile
import unittest

from pixpro_keras.cli.shared.result_files import TRAINING_FILES, results_table, write_results


class ResultsTableTest(unittest.TestCase):
    def test_has_a_row_for_each_result(self):
        table = results_table([{"backbone": "random", "top-1": 0.5}, {"backbone": "mine"}])
        self.assertEqual(
            table.splitlines(),
            [
                "| backbone | top-1 |",
                "| -------- | ----: |",
                "| random   | 50.0% |",
                "| mine     |     - |",
            ],
        )

    def test_a_wide_table_has_a_column_for_each_result(self):
        classes = {f"IoU of class {number}": 0.125 for number in range(20)}
        rows = [{"backbone": name, "images": 367} | classes for name in ("random", "mine")]
        lines = results_table(rows).splitlines()
        self.assertEqual(lines[0], "| backbone        | random |  mine |")
        self.assertEqual(lines[2], "| images          |    367 |   367 |")
        self.assertEqual(lines[-1], "| IoU of class 19 |  12.5% | 12.5% |")

    def test_the_command_for_tensorboard_names_the_folder(self):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        with contextlib.redirect_stdout(io.StringIO()) as output:
            write_results(folder, "knn", {"top-1": 0.5}, TRAINING_FILES)
        self.assertIn(f"tensorboard --logdir {folder}\n", output.getvalue())


if __name__ == "__main__":
    unittest.main()
