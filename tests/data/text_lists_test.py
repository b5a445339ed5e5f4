import pathlib

from absl.testing import absltest, parameterized

from pixpro_keras.data.text_lists import read_names


class ReadNamesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.file = pathlib.Path(self.create_tempdir().full_path) / "classes.txt"

    @parameterized.parameters(
        b"traffic light\ncar\n",
        b"traffic light\ncar",
        b"\xef\xbb\xbftraffic light\r\ncar\r\n\r\n",
        b"traffic light\rcar\r",
        b" traffic light \n\t\n\ncar \n",
    )
    def test_one_name_a_line(self, content):
        self.file.write_bytes(content)
        self.assertEqual(read_names(self.file), ["traffic light", "car"])

    def test_blank_lines_have_numbers_where_they_count(self):
        self.file.write_bytes(b"\na\n\nb\n\n\n")
        self.assertEqual(read_names(self.file, keep_blank=True), ["", "a", "", "b"])

    @parameterized.parameters("utf-16", "latin-1")
    def test_another_encoding_is_refused_by_name(self, encoding):
        self.file.write_text("Stra\u00dfe\n", encoding=encoding)
        with self.assertRaisesRegex(ValueError, r"classes\.txt is not a text file of UTF-8"):
            read_names(self.file)


if __name__ == "__main__":
    absltest.main()
