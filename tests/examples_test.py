"""Runs the examples of docstrings, each by itself, in a folder with a few photographs."""

import ast
import importlib
import inspect
import os
import pathlib
import re
import textwrap

import keras
import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.helpers.jobs import ROOT, write_photos
from tests.helpers.tiny_networks import RESNET10

PACKAGE = ROOT / "pixpro_keras"
_BLOCK = re.compile(r"^ *Example:\n+ *```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# Packages whose names need no example: commands, and helpers that are not for users.
_WITHOUT = ("cli", "utils")
# Modules of extras, which examples may use.
_EXTRAS = ("torch", "onnx", "onnxruntime", "huggingface_hub", "mlflow")


def examples():
    """Place and code of each example in the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                docstring = ast.get_docstring(node) or ""
                for code in _BLOCK.findall(docstring):
                    name = getattr(node, "name", "module")
                    place = f"{file.relative_to(PACKAGE).with_suffix('')}:{name}"
                    yield place.replace("/", "."), textwrap.dedent(code)


EXAMPLES = list(examples())


def public_names():
    """Functions and classes of the faces of packages."""
    for folder in sorted(path.parent for path in PACKAGE.rglob("__init__.py")):
        parts = folder.relative_to(PACKAGE).parts
        if parts and parts[0] not in _WITHOUT:
            package = importlib.import_module(".".join(("pixpro_keras", *parts)))
            for name in getattr(package, "__all__", ()):
                value = getattr(package, name)
                if inspect.isfunction(value) or inspect.isclass(value):
                    yield f"{package.__name__}.{name}", value


def shortened(code):
    """An example with a network of half the layers, but for detectron2, which has none."""
    if "detectron2" in code:
        return code
    code = code.replace('"resnet18_v1_5"', f'"{RESNET10}"')
    return code.replace('preset="pixpro_small",', f'preset="pixpro_small", backbone="{RESNET10}",')


class ExamplesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*((f"_{place}", code) for place, code in EXAMPLES))
    @pytest.mark.slow
    def test_runs(self, code):
        folder = pathlib.Path(self.create_tempdir().full_path)
        if "photos" in code:
            write_photos(folder / "photos")
        before, policy = os.getcwd(), keras.mixed_precision.global_policy()
        os.chdir(folder)
        try:
            exec(compile(shortened(code), "example", "exec"), {})
        except ImportError as error:
            if "pip install" not in str(error) and error.name not in _EXTRAS:
                raise
            self.skipTest(f"needs an extra: {error}")
        finally:
            os.chdir(before)
            keras.mixed_precision.set_global_policy(policy)

    def test_there_are_many(self):
        self.assertGreater(len(EXAMPLES), 50)

    @pytest.mark.slow  # imports everything
    def test_public_names_have_one(self):
        missing = [
            name
            for name, value in public_names()
            if not (inspect.isclass(value) and issubclass(value, Exception))
            and not _BLOCK.search(textwrap.dedent(inspect.getdoc(value) or ""))
        ]
        self.assertEmpty(missing, msg="\n".join(missing))


if __name__ == "__main__":
    tf.test.main()
