import unittest

from pixpro_keras.visualize.figures import figure_to_array
from pixpro_keras.visualize.result_chart import Panel, draw_results


class ResultChartTest(unittest.TestCase):
    def setUp(self):
        self.panels = [
            Panel("ours AP", [[1.0, 3.0], [], [2.5]], "theirs AP", [50.0, 51.0, None]),
            Panel("ours mIoU", [[], [], []], None, [None, None, None]),
        ]

    def test_shows_means_ranges_and_the_papers_numbers(self):
        figure = draw_results(["a", "b", "c"], self.panels)
        first, second, paper = figure.axes
        drawn = [line.get_xdata() for line in first.lines]
        # Of each row with results its range, its seeds, their mean.
        self.assertEqual([list(x) for x in drawn[:3]], [[1, 3], [1, 3], [2]])
        self.assertEqual([list(x) for x in drawn[3:]], [[2.5, 2.5], [2.5], [2.5]])
        self.assertEqual(list(paper.lines[0].get_xdata()), [50, 51])
        self.assertEqual([text.get_text() for text in second.texts], ["not run"])
        self.assertEqual([label.get_text() for label in first.get_yticklabels()], ["a", "b", "c"])
        self.assertGreater(figure_to_array(figure).std(), 0)

    def test_rows_must_fit(self):
        with self.assertRaisesRegex(ValueError, "2 rows each. Received: 'ours AP' with 3 and 3"):
            draw_results(["a", "b"], self.panels)


if __name__ == "__main__":
    unittest.main()
