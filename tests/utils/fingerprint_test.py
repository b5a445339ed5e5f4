import os
import pathlib
import tempfile
import unittest
from unittest import mock

from pixpro_keras.utils import fingerprint
from pixpro_keras.utils.fingerprint import sample, size_fingerprint


class SizeFingerprintTest(unittest.TestCase):
    def test_a_large_set_takes_a_sample_of_its_whole_range(self):
        chosen = sample(1_300_000)
        self.assertEqual((len(chosen), chosen[0], chosen[-1]), (2000, 0, 1_299_999))
        self.assertEqual(sample(2000), list(range(2000)))
        self.assertEqual(sample(0), [])
        asked = []
        with mock.patch.object(fingerprint, "_size", lambda path: asked.append(path) or 1):
            size_fingerprint(str, 1_300_000)
        self.assertCountEqual(asked, map(str, chosen))

    def test_it_is_of_the_sizes_in_their_order(self):
        with tempfile.TemporaryDirectory() as folder:
            files = [pathlib.Path(folder, name) for name in "abc"]
            for size, file in enumerate(files):
                file.write_bytes(b"x" * size)
            first = size_fingerprint(files.__getitem__, 3)
            self.assertEqual(size_fingerprint([*map(os.fsencode, files)].__getitem__, 3), first)
            self.assertNotEqual(size_fingerprint(files[::-1].__getitem__, 3), first)
            files[0].unlink()  # No file is not an empty one.
            self.assertNotEqual(size_fingerprint(files.__getitem__, 3), first)


if __name__ == "__main__":
    unittest.main()
