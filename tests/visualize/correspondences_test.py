import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from pixpro_keras import backbones
from pixpro_keras.visualize.correspondences import draw_correspondences, to_display
from pixpro_keras.visualize.figures import figure_to_array

WHOLE = [0.0, 0.0, 1.0, 1.0]
MIRRORED = [1.0, 0.0, 0.0, 1.0]
GAP = 1.12  # from the left side of view 1 to that of view 2


def views(count, side=32):
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def draw(coord1, coord2, size=(4, 4), **options):
    count = len(coord1)
    coords = (np.array(one, "float32") for one in (coord1, coord2))
    return draw_correspondences(views(count), views(count), *coords, size, 0.7, **options)


def marked_cells(panel, size):
    """Color -> cells outlined in it, (row, column) in view 1 and in view 2."""
    found = {}
    for box in panel.patches:
        if isinstance(box, Rectangle):
            view = int(box.get_x() > 1)
            column = round((box.get_x() - GAP * view) * size[1])
            cells = found.setdefault(to_hex(box.get_edgecolor()), {})
            cells[view] = (round(box.get_y() * size[0]), column)
    return {color: (cells[0], cells[1]) for color, cells in found.items()}


class ToDisplayTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        "resnet50",  # caffe: BGR, means subtracted
        "densenet121",  # torch: means and standard deviations
        "resnet18_v1_5",
        "mobilenetv2",  # tf: -1 to 1
        "efficientnetb0",  # unchanged
    )
    def test_inverts_the_networks_conventions(self, name):
        preprocess = backbones.preprocess_input(name)
        images = views(2)
        shown = to_display(preprocess(images.astype("float32")), preprocess)
        self.assertEqual(shown.dtype, np.uint8)
        self.assertAllEqual(shown, images)

    def test_colors_out_of_range_are_clipped(self):
        pixels = np.array([[[[-9.0, 300.0, 127.4]]]])
        self.assertAllEqual(to_display(pixels, lambda x: x), [[[[0, 255, 127]]]])

    def test_half_precision_views(self):
        images = views(1)
        half = tf.cast(images / 255.0, tf.bfloat16)
        self.assertAllClose(to_display(half, lambda x: x / 255).astype(int), images, atol=2, rtol=0)

    def test_what_cannot_be_inverted(self):
        with self.assertRaisesRegex(ValueError, "affine"):
            to_display(np.zeros((1, 1, 1, 3)), lambda x: x**2)
        with self.assertRaisesRegex(ValueError, "three channels"):
            to_display(np.zeros((1, 1, 1, 3)), lambda x: x * [1.0, 1.0, 0.0])


class DrawCorrespondencesTest(tf.test.TestCase, parameterized.TestCase):
    def test_equal_views_match_cell_by_cell(self):
        (panel,) = draw([WHOLE], [WHOLE]).axes
        pairs = marked_cells(panel, (4, 4))
        self.assertLen(pairs, 6)
        for cell1, cell2 in pairs.values():
            self.assertEqual(cell1, cell2)

    def test_mirrored_views_match_mirrored(self):
        (panel,) = draw([WHOLE], [MIRRORED], size=(3, 5)).axes
        pairs = marked_cells(panel, (3, 5))
        self.assertLen(pairs, 6)
        for (row1, column1), (row2, column2) in pairs.values():
            self.assertEqual((row1, column1), (row2, 4 - column2))
        texts = [text.get_text() for text in panel.texts]
        self.assertIn("view 1", texts)
        self.assertIn("view 2 (mirrored)", texts)

    def test_shifted_views(self):
        # View 2 starts one cell further right and two further down.
        (panel,) = draw([WHOLE], [[0.25, 0.5, 1.25, 1.5]]).axes
        pairs = marked_cells(panel, (4, 4))
        self.assertLen(pairs, 6)
        for (row1, column1), (row2, column2) in pairs.values():
            self.assertEqual((row1 - 2, column1 - 1), (row2, column2))

    def test_numbers_and_lines_go_with_the_colors(self):
        (panel,) = draw([WHOLE], [MIRRORED], max_pairs=3).axes
        pairs = marked_cells(panel, (4, 4))
        lines = {to_hex(line.get_color()): line.get_xydata() for line in panel.lines}
        self.assertEqual(lines.keys(), pairs.keys())
        for color, ((row1, column1), (row2, column2)) in pairs.items():
            ends = [[(column1 + 1) / 4, (row1 + 0.5) / 4], [GAP + column2 / 4, (row2 + 0.5) / 4]]
            self.assertAllClose(lines[color], ends)
        names = [text.get_text() for text in panel.texts]
        self.assertEqual([names.count(str(number)) for number in range(1, 5)], [2, 2, 2, 0])

    def test_cells_without_partner_are_faded(self):
        # View 2 is the right half of view 1: the left half of view 1 has no partner.
        options = {"size": (8, 8), "max_pairs": 0}
        panel = draw([WHOLE], [[0.5, 0.0, 1.5, 1.0]], **options).axes[0]
        veils = [np.asarray(image.get_array())[..., 3] for image in panel.images[1::2]]
        self.assertAllEqual(veils[0][:, :4] > 0, np.ones((8, 4)))
        self.assertAllEqual(veils[0][:, 4:], np.zeros((8, 4)))
        self.assertAllEqual(veils[1][:, :4], np.zeros((8, 4)))
        self.assertAllEqual(veils[1][:, 4:] > 0, np.ones((8, 4)))

    def test_title_counts_the_pairs(self):
        panels = draw([WHOLE, WHOLE, WHOLE], [WHOLE, WHOLE, [2.0, 2.0, 3.0, 3.0]]).axes
        # Neighbors along an axis are 1 / sqrt(2) > 0.7 diagonals away.
        self.assertEqual(panels[1].get_title(), "16 of 256 cell pairs are positive (6.2%)")
        self.assertEqual(panels[2].get_title(), "0 of 256 cell pairs are positive (0.0%)")
        self.assertEmpty(marked_cells(panels[2], (4, 4)))
        self.assertEqual([panel.get_title() == "" for panel in panels], [False] * 3 + [True])

    def test_zoomed_views_pair_each_cell_once(self):
        # View 2 is a quarter of view 1: several of its cells lie in one of view 1, and back.
        quarter = [0.0, 0.0, 0.5, 0.5]
        for coord1, coord2 in ((WHOLE, quarter), (quarter, WHOLE)):
            (panel,) = draw([coord1], [coord2], max_pairs=8).axes
            pairs = list(marked_cells(panel, (4, 4)).values())
            self.assertLen(pairs, 4)
            for cells in zip(*pairs, strict=True):
                self.assertLen(set(cells), 4)

    def test_pairs_are_spread(self):
        (panel,) = draw([WHOLE], [WHOLE], max_pairs=4).axes
        cells = {cell for cell, _ in marked_cells(panel, (4, 4)).values()}
        self.assertEqual(cells, {(0, 0), (0, 3), (3, 0), (3, 3)})

    def test_pixels_show_the_views(self):
        red, blue = np.zeros((2, 1, 32, 32, 3), np.uint8)
        red[..., 0], blue[..., 2] = 255, 255
        coord = np.array([WHOLE], "float32")
        figure = draw_correspondences(red, blue, coord, coord, (2, 2), 0.7, max_pairs=0)
        picture = figure_to_array(figure).astype(int)
        height, width = picture.shape[:2]
        for x, color in ((width // 8, [255, 0, 0]), (width - width // 8, [0, 0, 255])):
            self.assertAllClose(picture[height // 3, x], color, atol=2)

    @parameterized.parameters(
        ({"max_pairs": 9}, "`max_pairs`.*max_pairs=9"), ({"max_pairs": -1}, "`max_pairs`")
    )
    def test_bad_settings(self, options, message):
        with self.assertRaisesRegex(ValueError, message):
            draw([WHOLE], [WHOLE], **options)


if __name__ == "__main__":
    tf.test.main()
