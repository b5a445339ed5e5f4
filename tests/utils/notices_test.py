import importlib.machinery
import io
import os
import sys
import tempfile
import unittest
from unittest import mock

from pixpro_keras.utils import notices

NOTICES = b"""\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795896272.377201   19333 port.cc:153] oneDNN custom operations are on. You may see
I0000 00:00:1795896272.383110   19333 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU
E0000 00:00:1795896310.642559   19628 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error
E0000 00:00:1795896310.642559   19628 cuda_fft.cc:467] Unable to register cuFFT factory: Attempting to
2025-01-01 10:00:00.123456: I tensorflow/core/util/port.cc:153] oneDNN custom operations are on.
2025-01-01 10:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the
"""
ERRORS = b"""\
The TensorFlow library was compiled to use AVX instructions, but these aren't available on your machine.
F0000 00:00:1795896310.642559   19628 tensor.cc:1] Check failed: 1 == 2
E0000 00:00:1795896310.642559   19628 gpu.cc:1] out of memory
ImportError: libfoo.so.1: cannot open shared object file
Fatal Python error: Segmentation fault
last words without an end of line"""


class NoticesTest(unittest.TestCase):
    def test_notices_go_and_the_rest_stays(self):
        target = io.BytesIO()
        notices.pass_on(io.BytesIO(NOTICES + ERRORS), target)
        self.assertEqual(target.getvalue(), ERRORS)

    def written(self, level):
        with (
            tempfile.TemporaryFile() as file,
            mock.patch.dict(os.environ, {"TF_CPP_MIN_LOG_LEVEL": level}),
        ):
            before = os.dup(2)
            try:
                os.dup2(file.fileno(), 2)
                with self.assertRaises(ImportError), notices.without_notices():
                    os.write(2, NOTICES + ERRORS)
                    raise ImportError
                os.write(2, b"\nafter")
            finally:
                os.dup2(before, 2)
                os.close(before)
            file.seek(0)
            return file.read()

    def test_errors_are_never_lost(self):
        self.assertEqual(self.written("2"), ERRORS + b"\nafter")

    def test_who_asks_for_notices_gets_them(self):
        self.assertEqual(self.written("0"), NOTICES + ERRORS + b"\nafter")

    def test_only_the_import_of_tensorflow_is_changed(self):
        with mock.patch.object(sys, "meta_path", list(sys.meta_path)):
            before = list(sys.meta_path)
            with mock.patch.dict(sys.modules):
                sys.modules.pop("tensorflow", None)
                notices.import_without_notices()
                finder = sys.meta_path[0]
                self.assertIsNone(finder.find_spec("tensorflow.python", None))
                spec = finder.find_spec("tensorflow", None)
            self.assertEqual(sys.meta_path, before)
        seen = []
        loader = mock.Mock(exec_module=lambda module: seen.append(module))
        spec.loader._loader = loader
        module = mock.Mock(__spec__=importlib.machinery.ModuleSpec("x", None))
        spec.loader.exec_module(module)
        self.assertEqual(seen, [module])
        self.assertIs(module.__loader__, loader)


if __name__ == "__main__":
    unittest.main()
