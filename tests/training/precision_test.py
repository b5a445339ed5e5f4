import pathlib
from unittest import mock

import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.training import best_precision
from pixpro_keras.utils import processor


class BestPrecisionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (
            "fpu avx512f avx512_bf16 amx_bf16",
            "mixed_bfloat16",
            "a processor with AMX and AVX512-BF16",
        ),
        ("fpu avx2", "float32", "a processor without AMX or AVX512-BF16"),
        (None, "float32", "a processor without AMX or AVX512-BF16"),
    )
    def test_processors(self, flags, expected, reason):
        file = pathlib.Path(self.create_tempdir().full_path) / "cpuinfo"
        if flags is not None:
            file.write_text(f"processor : 0\nflags\t\t: {flags}\n\nprocessor : 1\n")
        with (
            mock.patch.object(processor, "_CPU_INFO", file),
            mock.patch.object(tf.config, "list_physical_devices", return_value=[]),
        ):
            self.assertEqual(best_precision(), (expected, reason))

    @parameterized.parameters(((7, 5), "float32"), ((8, 0), "mixed_bfloat16"), (None, "float32"))
    def test_gpus_count_by_the_oldest(self, capability, expected):
        details = [{"compute_capability": (9, 0)}, {"compute_capability": capability}]
        with (
            mock.patch.object(tf.config, "list_physical_devices", return_value=["a", "b"]),
            mock.patch.object(tf.config.experimental, "get_device_details", side_effect=details),
        ):
            self.assertEqual(best_precision()[0], expected)

    def test_tpus(self):
        self.assertEqual(best_precision("tpu"), ("mixed_bfloat16", "a TPU"))


if __name__ == "__main__":
    tf.test.main()
