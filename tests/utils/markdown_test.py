import unittest

from pixpro_keras.utils.markdown import markdown_table


class MarkdownTest(unittest.TestCase):
    def test_has_a_line_for_the_header_the_rule_and_each_row(self):
        table = markdown_table(["abc", "def"], [["one", "two"], ["x", None]])
        self.assertEqual(table, "| abc | def  |\n| --- | ---- |\n| one | two  |\n| x   | None |")

    def test_numbers_are_aligned_on_the_right(self):
        table = markdown_table(["name", "top-1"], [["random", "9.5%"], ["mine", "-"], ["a", -1e-7]])
        self.assertEqual(
            table.splitlines(),
            [
                "| name   |  top-1 |",
                "| ------ | -----: |",
                "| random |   9.5% |",
                "| mine   |      - |",
                "| a      | -1e-07 |",
            ],
        )

    def test_a_table_may_have_no_rows(self):
        self.assertEqual(markdown_table(["a"], []), "| a   |\n| --- |")

    def test_a_row_of_another_length_is_an_error(self):
        with self.assertRaises(ValueError):
            markdown_table(["a", "b"], [["1"]])

    def test_a_cell_cannot_break_the_table(self):
        table = markdown_table(["a"], [["one | two\nthree"]])
        self.assertEqual(table.splitlines()[2], "| one \\| two three |")


if __name__ == "__main__":
    unittest.main()
