import unittest

from pixpro_keras.visualize.comparison_chart import draw_comparison
from pixpro_keras.visualize.figures import figure_to_array


class ComparisonChartTest(unittest.TestCase):
    def test_a_bar_for_each_backbone_in_each_panel(self):
        measures = {"top-1": [0.1, 0.625], "top-5": [None, 0.9]}
        figure = draw_comparison(["random", "mine"], measures)
        first, second = figure.axes
        self.assertEqual([bar.get_width() for bar in first.patches], [10.0, 62.5])
        self.assertEqual([text.get_text() for text in first.texts], ["10.0", "62.5"])
        self.assertEqual([text.get_text() for text in second.texts], ["-", "90.0"])
        labels = [label.get_text() for label in first.get_yticklabels()]
        self.assertEqual(labels, ["random", "mine"])
        self.assertGreater(first.get_ylim()[0], first.get_ylim()[1])  # the first one is on top
        self.assertGreater(figure_to_array(figure).std(), 0)

    def test_no_tick_is_above_all_of_a_share(self):
        for share, highest in ((1.0, 100), (0.9, 100), (0.1, 12)):
            (axis,) = draw_comparison(["random"], {"top-1": [share]}).axes
            self.assertEqual(axis.get_xticks()[-1], highest)
            self.assertAlmostEqual(axis.get_xlim()[1], 120 * share)

    def test_values_must_fit(self):
        with self.assertRaisesRegex(ValueError, "2 values each. Received: 'top-1' with 1"):
            draw_comparison(["a", "b"], {"top-1": [0.5]})
        with self.assertRaisesRegex(ValueError, "at least one"):
            draw_comparison(["a"], {})


if __name__ == "__main__":
    unittest.main()
