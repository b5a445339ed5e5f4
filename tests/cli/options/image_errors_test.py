import pathlib

import tensorflow as tf

from pixpro_keras.cli.options.image_errors import image_errors
from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.data.labels import select
from pixpro_keras.data.sources import open_source
from tests.helpers.jobs import write_photos


class ImageErrorsTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(folder / "a", count=3)
        whole = (folder / "a" / "2.jpg").read_bytes()
        (folder / "a" / "2.jpg").write_bytes(whole[: len(whole) // 2])
        self.source = open_source(f"folder:{folder}")

    def test_errors_name_the_file(self):
        with (
            self.assertRaisesRegex(FlagError, r"a/2\.jpg cannot be decoded"),
            image_errors(self.source),
        ):
            raise tf.errors.InvalidArgumentError(None, None, "jpeg::Uncompress failed")

    def test_errors_of_the_training_are_not_those_of_an_image(self):
        data = tf.data.Dataset.from_tensors(b"broken").map(tf.io.decode_jpeg)
        with (
            self.assertRaisesRegex(FlagError, "^an image of boxes cannot be decoded: .*image file"),
            image_errors("boxes"),
        ):
            next(iter(data))
        sound = select(self.source, [0, 1])
        for source in ("boxes", sound):
            with (
                self.assertRaisesRegex(tf.errors.InvalidArgumentError, "7 is not in"),
                image_errors(source),
            ):
                tf.gather(tf.range(3), 7)

    def test_a_broken_image_is_not_blamed_for_an_error_of_a_step(self):
        step = tf.function(lambda index: tf.gather(tf.range(3), index))
        with (
            self.assertRaisesRegex(tf.errors.InvalidArgumentError, "7 is not in"),
            image_errors(self.source),
        ):
            step(tf.constant(7))


if __name__ == "__main__":
    tf.test.main()
