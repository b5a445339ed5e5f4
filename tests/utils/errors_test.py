import unittest

from pixpro_keras.utils.errors import first_line


class FirstLineTest(unittest.TestCase):
    def test_further_lines_are_left_out(self):
        self.assertEqual(first_line(ValueError("\n one \ntwo")), "one ")

    def test_an_error_without_text_is_called_by_its_class(self):
        self.assertEqual(first_line(KeyError()), "KeyError")


if __name__ == "__main__":
    unittest.main()
