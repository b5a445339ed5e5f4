import unittest

from pixpro_keras.utils.memory import machine_mib, memory_mib


class MemoryTest(unittest.TestCase):
    def test_counts_what_the_process_took(self):
        block = bytearray(300 * 2**20)
        block[::4096] = b"x" * len(block[::4096])
        self.assertGreater(memory_mib(), 300)

    def test_the_machine_has_more_than_this_process_took(self):
        self.assertGreater(machine_mib(), memory_mib())


if __name__ == "__main__":
    unittest.main()
