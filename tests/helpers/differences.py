"""Pytest plugin that prints the largest difference of compared values per test, for `docs/verification.md`.

    python -m pytest -n0 -p tests.helpers.differences tests/losses tests/layers

For each test: the largest `|found - expected|` of `assertAllClose` over the largest `|expected|` of the same
arrays, and the largest number that `assertLess` held against a bound.
"""

import numpy as np
import pytest
import tensorflow as tf

_found = {}
_current = [None]
_all_close, _less = tf.test.TestCase.assertAllClose, tf.test.TestCase.assertLess


def _note(value):
    if _current[0] is not None and np.isfinite(value):
        _found[_current[0]] = max(_found.get(_current[0], 0.0), float(value))


def _relative(found, expected):
    try:
        found, expected = (np.asarray(one, "float64") for one in (found, expected))
    except (TypeError, ValueError):  # structures and ragged lists
        return
    if found.shape == expected.shape and found.size:
        largest = np.abs(expected).max()
        _note(np.abs(found - expected).max() / (largest if largest > 0 else 1.0))


def _watched_all_close(self, a, b, *args, **kwargs):
    _all_close(self, a, b, *args, **kwargs)
    _relative(a, b)  # only of what is equal: `assertNotAllClose` comes here too


def _watched_less(self, a, b, *args, **kwargs):
    if isinstance(a, float | np.floating):
        _note(a)
    return _less(self, a, b, *args, **kwargs)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Watches the assertions of one test."""
    _current[0] = item.nodeid
    tf.test.TestCase.assertAllClose = _watched_all_close
    tf.test.TestCase.assertLess = _watched_less
    yield
    tf.test.TestCase.assertAllClose, tf.test.TestCase.assertLess = _all_close, _less
    _current[0] = None


def pytest_terminal_summary(terminalreporter):
    """Prints the numbers."""
    terminalreporter.section("largest differences")
    for name, value in sorted(_found.items()):
        terminalreporter.write_line(f"{value:.1e}  {name}")
