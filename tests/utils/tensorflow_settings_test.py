import os
import platform
import subprocess
import sys
import unittest

import tensorflow as tf

# Counts glibc's heaps after more threads than processors have taken memory at the same time.
SCRIPT = """
import ctypes, threading
import pixpro_keras.utils.tensorflow_settings
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
start = threading.Barrier(%d)
def take():
    start.wait()
    libc.malloc(100_000)
threads = [threading.Thread(target=take) for _ in range(start.parties)]
for thread in threads: thread.start()
for thread in threads: thread.join()
output = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, output)
libc.fclose(output)
"""


@unittest.skipUnless(platform.libc_ver()[0] == "glibc", "only glibc has several heaps")
class TensorFlowSettingsTest(tf.test.TestCase):
    def heaps(self, **variables):
        # Of the parent's variables none must set what is looked at.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        script = SCRIPT % (2 * os.cpu_count() + 2)
        run = subprocess.run(
            [sys.executable, "-c", script],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stdout.count("<heap nr=")

    def test_no_more_heaps_than_processors(self):
        self.assertBetween(self.heaps(), 1, os.cpu_count())

    def test_the_environment_goes_first(self):
        self.assertEqual(self.heaps(MALLOC_ARENA_MAX=str(os.cpu_count() + 2)), os.cpu_count() + 2)


if __name__ == "__main__":
    tf.test.main()
