"""Settings that speed up tracing and optimization of small graphs, and drawing in tests."""

import gc
import inspect
from unittest import mock

import tensorflow as tf
from tensorflow.python.framework import ops


def make_graphs_quickly():
    """Speeds up tracing in this process. Errors then lack the place where an operation was created.

    Rewriting the graphs takes longer than running them here. The Python stack that TensorFlow notes for each
    operation, which error messages of a running graph show, is a seventh of the time of tracing; looking all
    the time for garbage among the millions of objects that tracing makes is a twelfth.
    """
    gc.set_threshold(20_000, 20, 10)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    create = inspect.unwrap(ops._create_c_op)
    if list(inspect.signature(create).parameters)[-1] == "extract_traceback":
        create.__defaults__ = (*create.__defaults__[:-1], False)


def without_layout():
    """Patch that leaves out the layout of figures, which takes longer than drawing them: texts overlap."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return mock.patch.object(ConstrainedLayoutEngine, "execute", lambda self, figure: None)


def without_curves():
    """Patch that leaves the picture of a run's curves empty, which takes half a second to render.

    `tests/visualize/plots_test.py` renders them, and so do commands in processes of their own.
    """
    from pixpro_keras.visualize import figures, plots

    def save_empty(figure, path):
        del figure
        figures.save_figure(figures.new_figure(1, 1), path)

    return mock.patch.object(plots, "save_figure", save_empty)
