import pathlib

import tensorflow as tf

from pixpro_keras.utils.files import append
from tests.helpers.full_disk import largest_file


class AppendTest(tf.test.TestCase):
    def test_appends_all_or_nothing(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        file = folder / "a"
        append(file, b"0123456789")
        with largest_file(15), self.assertRaises(OSError):
            append(file, b"0123456789")
        self.assertEqual(file.read_bytes(), b"0123456789")
        with self.assertRaises(OSError):
            append("/dev/full", b"more")


if __name__ == "__main__":
    tf.test.main()
