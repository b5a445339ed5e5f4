import unittest

from pixpro_keras.utils.markdown import markdown_table


class MarkdownTest(unittest.TestCase):
    def test_has_a_line_for_the_header_the_rule_and_each_row(self):
        table = markdown_table(["a", "b"], [["1", 2], [3.5, None]])
        self.assertEqual(table, "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3.5 | None |")

    def test_a_cell_cannot_break_the_table(self):
        table = markdown_table(["a"], [["one | two\nthree"]])
        self.assertEqual(table.splitlines()[2], "| one \\| two three |")


if __name__ == "__main__":
    unittest.main()
