import os
import pathlib
import sys
from concurrent import futures
from unittest import mock

import numpy as np
import tensorflow as tf

from pixpro_keras.visualize import figures


def two_halves():
    """Figure whose left half is red and right half is blue, without margins."""
    figure = figures.new_figure(2, 1)
    figure.set_layout_engine("none")
    panel = figure.add_axes((0, 0, 1, 1))
    panel.axis("off")
    panel.imshow([[[255, 0, 0], [0, 0, 255]]], aspect="auto", interpolation="nearest")
    return figure


class FiguresTest(tf.test.TestCase):
    def test_array_has_the_drawn_colors(self):
        array = figures.figure_to_array(two_halves())
        self.assertEqual((array.shape, array.dtype), ((100, 200, 3), np.uint8))
        self.assertAllEqual(array[50, 40], [255, 0, 0])
        self.assertAllEqual(array[50, 160], [0, 0, 255])

    def test_saved_png_is_the_array(self):
        path = pathlib.Path(self.create_tempdir().full_path) / "picture.png"
        figure = two_halves()
        figures.save_figure(figure, path)
        self.assertAllEqual(
            tf.io.decode_png(path.read_bytes(), channels=3), figures.figure_to_array(figure)
        )
        self.assertEqual([one.name for one in path.parent.iterdir()], ["picture.png"])

    def test_interrupted_save_keeps_the_old_file(self):
        folder = pathlib.Path(self.create_tempdir().full_path)
        path = folder / "picture.png"
        path.write_bytes(b"old")
        with (
            mock.patch.object(os, "replace", side_effect=KeyboardInterrupt),
            self.assertRaises(KeyboardInterrupt),
        ):
            figures.save_figure(two_halves(), path)
        self.assertEqual(path.read_bytes(), b"old")
        self.assertEqual([one.name for one in folder.iterdir()], ["picture.png"])

    def test_missing_folder(self):
        with self.assertRaises(OSError):
            figures.save_figure(two_halves(), "/no/such/folder/picture.png")

    def test_missing_matplotlib_names_the_extra(self):
        with (
            mock.patch.dict(sys.modules, {"matplotlib.figure": None}),
            self.assertRaisesRegex(ImportError, r"pip install 'pixpro-keras\[viz\]'"),
        ):
            figures.new_figure(1, 1)

    def test_pyplot_does_not_know_the_figures(self):
        from matplotlib import pyplot

        figures.figure_to_array(two_halves())
        self.assertEmpty(pyplot.get_fignums())

    def test_draws_in_other_threads(self):
        with futures.ThreadPoolExecutor(4) as pool:
            arrays = list(pool.map(lambda _: figures.figure_to_array(two_halves()), range(8)))
        for array in arrays:
            self.assertAllEqual(array, arrays[0])


if __name__ == "__main__":
    tf.test.main()
