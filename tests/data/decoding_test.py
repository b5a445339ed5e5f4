import io

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras.data import decoding, sources
from tests.helpers.shared_data import shared_path

ORIENTATION = 0x0112


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(encoded):
    from PIL import Image

    return Image.open(io.BytesIO(encoded))


def random_image(height=24, width=40):
    from PIL import Image

    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 5, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)


class DecodeTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        signature = [tf.TensorSpec((), tf.string)]
        cls.decode = staticmethod(tf.function(decoding.decode, input_signature=signature))

    @parameterized.product(kind=["jpeg", "png", "webp"], maker=["", "m" * 301])
    def test_is_upright(self, kind, maker):
        from PIL import Image, ImageOps

        for orientation in range(10):
            exif = Image.Exif()
            if orientation:
                exif[ORIENTATION] = orientation
            exif[0x010F] = maker
            options = {"lossless": True} if kind == "webp" else {}
            encoded = encode(random_image(), kind, exif=exif, **options)
            expected = np.asarray(ImageOps.exif_transpose(opened(encoded)).convert("RGB"))
            image = self.decode(encoded)
            self.assertEqual(image.shape, expected.shape)
            self.assertAllEqual(image, expected)
            size = decoding.upright_size(opened(encoded))
            self.assertEqual(size, expected.shape[1::-1])
            known = orientation if 1 <= orientation <= 8 else 1
            self.assertEqual(decoding.header_orientation(opened(encoded)), known)

    @parameterized.product(
        mode=["RGB", "L"], subsampling=[0, 1, 2], quality=[40, 95], progressive=[False, True]
    )
    def test_jpeg_has_pillows_pixels(self, mode, subsampling, quality, progressive):
        image = random_image(43, 61).convert(mode)
        options = {"subsampling": subsampling} if mode == "RGB" else {}
        encoded = encode(image, "jpeg", quality=quality, progressive=progressive, **options)
        self.assertAllEqual(self.decode(encoded), np.asarray(opened(encoded).convert("RGB")))

    def test_photographs_have_pillows_pixels(self):
        files = sorted(shared_path("data", "imagenet_sample").rglob("*.jpg"))
        for path in files[::50]:
            encoded = path.read_bytes()
            with self.subTest(path.name):
                self.assertAllEqual(
                    self.decode(encoded), np.asarray(opened(encoded).convert("RGB"))
                )

    def test_numbers_of_either_byte_order(self):
        exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        encoded = encode(random_image(), "jpeg", exif=exif)
        self.assertEqual(int(decoding.exif_orientation(tf.constant(encoded))), 6)

    def test_damaged_exif_data_are_no_orientation(self):
        from PIL import Image

        exif = Image.Exif()
        exif[ORIENTATION] = 6
        content = exif.tobytes()
        for cut in range(6, len(content)):
            for damaged in (content[:cut], content[:cut] + b"\xff" * 8):
                encoded = encode(random_image(), "jpeg", exif=damaged)
                orientation = int(decoding.exif_orientation(tf.constant(encoded)))
                self.assertBetween(orientation, 1, 8)
                self.assertEqual(self.decode(encoded).shape[2], 3)

    def test_other_processes_can_run_the_graph(self):
        graph = self.decode.get_concrete_function().graph.as_graph_def()
        nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
        self.assertNotIn("PyFunc", {node.op for node in nodes})

    @parameterized.parameters(("1", 37), ("L", 38), ("P", 37), ("RGB", 37))
    def test_bmp(self, mode, width):
        image = random_image(11, width)
        image = image.quantize(200) if mode == "P" else image.convert(mode)
        self.assertAllEqual(self.decode(encode(image, "bmp")), np.asarray(image.convert("RGB")))

    def test_faults(self):
        encoded = shared_path("faults", "formats", "palette.bmp").read_bytes()
        self.assertAllEqual(self.decode(encoded), np.asarray(opened(encoded).convert("RGB")))
        compressed = encoded[:30] + b"\x01" + encoded[31:]
        for wrong in (compressed, encoded[:-1]):
            with self.assertRaisesRegex(tf.errors.InvalidArgumentError, "BMP"):
                self.decode(wrong)


class RangesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters((4016, True), (16383, True), (30000, False), (65535, False))
    def test_a_small_range_of_16_bits_is_named(self, highest, is_small):
        folder = self.create_tempdir()
        values = np.linspace(32, highest, 48).reshape(6, 8, 1).astype("uint16")
        folder.create_file("a.png", tf.io.encode_png(values).numpy(), mode="wb")
        if not is_small:
            with self.assertNoLogs("absl", "WARNING"):
                sources.open_source(f"folder:{folder.full_path}")
            return
        with self.assertLogs("absl", "WARNING") as logs:
            sources.open_source(f"folder:{folder.full_path}")
        self.assertIn(f"a.png: its 16-bit values are 32 to {highest} of 65535", logs.output[0])

    def test_faults(self):
        with self.assertLogs("absl", "WARNING") as logs:
            sources.open_source(f"folder:{shared_path('faults', 'formats')}")
        self.assertIn("gray16_12bit.png: its 16-bit values are 32 to 4016", logs.output[0])


if __name__ == "__main__":
    tf.test.main()
