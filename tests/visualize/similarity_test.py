import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from matplotlib.patches import Rectangle

from pixpro_keras.visualize.figures import figure_to_array
from pixpro_keras.visualize.similarity import draw_similarity, map_to_show


def views(count=2, height=30, width=40):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def features(count=2, height=3, width=4, channels=5):
    return np.random.default_rng(1).normal(size=(count, height, width, channels)).astype("float32")


def heat_of(panel):
    """Values of the colored layer of a panel."""
    return np.asarray(panel.images[1].get_array())


class DrawSimilarityTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(1.0, 2.0, 3.5)
    def test_maps_against_a_loop(self, gamma):
        x, pixels = features(), [(0, 3), (2, 1)]
        panels = draw_similarity(views(), x, pixels, gamma).axes
        for image in range(2):
            for number, (row, column) in enumerate(pixels):
                heat = heat_of(panels[3 * image + 1 + number])
                for i in range(3):
                    for j in range(4):
                        one, other = x[image, row, column], x[image, i, j]
                        lengths = np.linalg.norm(one) * np.linalg.norm(other)
                        expected = max(one @ other / lengths, 0) ** gamma
                        self.assertAllClose(heat[i, j], expected, atol=1e-4)

    def test_the_first_of_several_levels_is_shown(self):
        c4, c5 = tf.ones((1, 4, 4, 8)), tf.ones((1, 2, 2, 8))
        shown = map_to_show({"features": c5, "pixel": {"c4": c4, "c5": c5}})
        self.assertAllEqual(shown, c4)

    def test_query_is_outlined_and_numbered_on_view_and_map(self):
        panels = draw_similarity(views(1), features(1), [(0, 3), (2, 1)]).axes
        self.assertEqual([t.get_text() for t in panels[0].texts], ["1", "2"])
        self.assertEqual([t.get_text() for t in panels[1].texts], ["1"])
        self.assertEqual([t.get_text() for t in panels[2].texts], ["2"])
        for panel, (row, column) in zip(panels[1:3], [(0, 3), (2, 1)], strict=True):
            (box,) = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
            # In shares of the panel, y upwards.
            self.assertAllClose(box.get_xy(), (column / 4, 1 - (row + 1) / 3))
            self.assertAllClose((box.get_width(), box.get_height()), (1 / 4, 1 / 3))

    def test_number_leaves_a_small_cell_free(self):
        cells = [(3, 2), (3, 17)]
        figure = draw_similarity(views(1), features(1, 20, 20), cells)
        figure_to_array(figure)
        for box, text in zip(figure.axes[0].patches, figure.axes[0].texts, strict=True):
            self.assertFalse(box.get_window_extent().overlaps(text.get_window_extent()))

    def test_scale_is_fixed_so_that_collapse_shows(self):
        collapsed = draw_similarity(views(1), np.ones((1, 3, 4, 5), "float32")).axes
        self.assertAllClose(heat_of(collapsed[1]), np.ones((3, 4)))
        self.assertEqual(collapsed[1].images[1].get_clim(), (0, 1))

    def test_similar_half_is_brighter(self):
        x = np.zeros((1, 4, 4, 2), "float32")
        x[:, :, :2, 0], x[:, :, 2:, 1] = 1, 1
        dark = np.zeros((1, 32, 32, 3), np.uint8)
        figure = draw_similarity(dark, x, [(1, 0)])
        picture = figure_to_array(figure).astype(int)
        box = figure.axes[1].get_window_extent()
        y = round(picture.shape[0] - box.y0 - box.height / 8)  # away from the query's outline
        left, right = (picture[y, round(box.x0 + share * box.width)] for share in (0.125, 0.875))
        self.assertGreater(left.sum(), right.sum() + 200)

    def test_default_queries_fit_any_map(self):
        for size in (1, 2, 7):
            figure = draw_similarity(views(1), features(1, size, size))
            self.assertLen(figure.axes, 5)  # the view, three maps and the color bar

    @parameterized.parameters(
        ({"gamma": 0.0}, "`gamma` must be positive. Received: gamma=0.0"),
        ({"pixels": [(0, 4)]}, r"`pixels`.*3x4.*\(0, 4\)"),
        ({"pixels": [(-1, 0)]}, "`pixels`"),
        ({"pixels": []}, "`pixels`"),
    )
    def test_bad_settings(self, options, message):
        with self.assertRaisesRegex(ValueError, message):
            draw_similarity(views(), features(), **options)


if __name__ == "__main__":
    tf.test.main()
