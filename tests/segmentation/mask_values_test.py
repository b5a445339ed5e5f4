import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from pixpro_keras.segmentation.mask_source import LabelValues, MaskSource
from pixpro_keras.segmentation.mask_values import (
    classes_of_masks,
    map_in_a_row,
    read_class_names,
    values_in,
    warn_of_gaps,
    warn_of_palettes,
)
from tests.helpers.examples import save_image


class MaskValuesTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.root = pathlib.Path(self.create_tempdir().full_path)

    def write(self, *values):
        """Writes a mask with the given values."""
        path = self.root / f"{len(list(self.root.iterdir()))}.png"
        save_image(path, np.array([values], np.uint8))
        return path

    def test_blank_lines_do_not_shift_numbers(self):
        file = self.root / "classes.txt"
        file.write_text("\ufeffbackground\r\n\r\nroad sign\r\n\r\n")
        self.assertEqual(read_class_names(file), ("background", "class 1", "road sign"))

    def test_a_class_named_twice_is_refused(self):
        file = self.root / "classes.txt"
        file.write_text("car\ncar\n")
        with self.assertRaisesRegex(ValueError, r"classes\.txt names 'car' twice"):
            read_class_names(file)

    def test_an_empty_list_is_refused(self):
        file = self.root / "classes.txt"
        file.write_text("\n")
        with self.assertRaisesRegex(ValueError, r"classes\.txt has no name of a class"):
            read_class_names(file)

    def test_values_of_a_file(self):
        self.assertAllEqual(values_in(self.write(7, 0, 7)), [0, 7])
        broken = self.root / "broken.png"
        broken.write_bytes(b"no image")
        self.assertEmpty(values_in(broken))

    def test_numbers_of_classes_reach_the_largest_value(self):
        masks = [self.write(0, 255), self.write(3, 1)]
        names = ("class 0", "class 1", "class 2", "class 3")
        self.assertEqual(classes_of_masks(masks, LabelValues()), (names, (0, 1, 3)))

    def test_a_map_of_values_gives_the_classes(self):
        self.assertEqual(
            classes_of_masks([], LabelValues(None, {0: 0, 9: 1})), (("class 0", "class 1"), ())
        )

    def test_gaps_are_told_with_a_map_that_closes_them(self):
        self.assertEqual(map_in_a_row([0, 4, 9]), "0:0,4:1,9:2")
        parts = [
            MaskSource(name, 1, lambda index: None, str, ("thing",), values)
            for name, values in (("one", (0, 4)), ("two", (9,)))
        ]
        with self.assertLogs("absl", "WARNING") as logs:
            warn_of_gaps(parts, ignored=5)
        self.assertLen(logs.output, 1)
        self.assertRegex(
            logs.output[0],
            "one and two have only the values 0, 4, 9: 6 of 10 .*--label_map=0:0,4:1,9:2",
        )
        whole = MaskSource("whole", 1, lambda index: None, str, ("thing",), (0, 1, 3))
        with self.assertNoLogs("absl", "WARNING"):
            warn_of_gaps([whole], ignored=2)

    def test_palettes_that_differ_in_a_used_color_are_told(self):
        folder = pathlib.Path(self.create_tempdir().full_path)

        def write(name, values, colors):
            image = Image.new("P", (len(values), 1))
            image.putdata(values)
            image.putpalette([part for color in colors for part in color])
            image.save(folder / name)
            return folder / name

        black, red, blue = [0, 0, 0], [255, 0, 0], [0, 0, 255]
        one = write("one.png", [0, 1, 1], [black, red])
        same = write("same.png", [0, 1], [black, red, blue])
        unused = write("unused.png", [0, 0], [black, blue])
        gray = folder / "gray.png"
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(gray)
        (folder / "broken.png").write_bytes(one.read_bytes()[:60])
        with self.assertNoLogs("absl", "WARNING"):
            warn_of_palettes([gray, one, same, unused, folder / "broken.png"])
        other = write("other.png", [0, 1], [black, blue])
        with self.assertLogs("absl", "WARNING") as logs:
            warn_of_palettes([one, same, other, other])
        (line,) = logs.output
        self.assertIn(f"the value 1 has the color #ff0000 in {one} and #0000ff in {other}", line)


if __name__ == "__main__":
    tf.test.main()
