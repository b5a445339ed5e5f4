"""Paths of the real data and reference numbers, which are stored beside the project."""

import pathlib
import unittest

_SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"


def shared_path(*parts: str) -> pathlib.Path:
    """Path below `../shared`. Skips the test if it is missing."""
    path = _SHARED.joinpath(*parts)
    if not path.exists():
        raise unittest.SkipTest(f"needs ../shared/{'/'.join(parts)}, which is absent")
    return path
