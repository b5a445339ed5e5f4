import unittest

from pixpro_keras.utils.errors import first_line


class FirstLineTest(unittest.TestCase):
    def test_passes_over_empty_lines(self):
        self.assertEqual(first_line(ValueError("\n  one \ntwo")), "one")

    def test_leaves_out_names_of_operations(self):
        for message in (
            "{{node ReadFile}} a.jpg; No such file [Op:ReadFile] name: ",
            "a.jpg; No such file",
        ):
            self.assertEqual(first_line(ValueError(message)), "a.jpg; No such file")

    def test_without_a_message_it_is_the_class(self):
        self.assertEqual(first_line(KeyboardInterrupt()), "KeyboardInterrupt")


if __name__ == "__main__":
    unittest.main()
