import unittest

from pixpro_keras.utils.memory import memory_mib


class MemoryTest(unittest.TestCase):
    def test_counts_what_the_process_took(self):
        block = bytearray(300 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        self.assertGreater(memory_mib(), 300)


if __name__ == "__main__":
    unittest.main()
