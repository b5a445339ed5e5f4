"""The package's public names, which are imported when they are first used."""

import ast
import pkgutil
import subprocess
import sys
import unittest

import pytest

import pixpro_keras
from tests.helpers.jobs import ROOT

# Commands are not for import: they define flags.
_NOT_PUBLIC = {"cli", "quickstart", "version"}


def run(code):
    """Runs a program in a new process. Fails if the program fails."""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class PublicNamesTest(unittest.TestCase):
    def test_each_name_is_there(self):
        for name in pixpro_keras.__all__:
            self.assertIsNotNone(getattr(pixpro_keras, name), name)

    def test_each_module_but_commands_is_a_name(self):
        modules = {module.name for module in pkgutil.iter_modules(pixpro_keras.__path__)}
        self.assertLessEqual(modules - _NOT_PUBLIC, set(pixpro_keras.__all__))

    def test_dir_lists_them(self):
        self.assertEqual(set(dir(pixpro_keras)), set(pixpro_keras.__all__))

    def test_type_checkers_see_them(self):
        tree = ast.parse((ROOT / "pixpro_keras" / "__init__.py").read_text())
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self.assertLessEqual(set(pixpro_keras.__all__), imported)

    def test_other_names_are_refused(self):
        with self.assertRaisesRegex(AttributeError, "'pixpro_keras' has no attribute 'backbone'"):
            _ = pixpro_keras.backbone

    def test_the_bare_import_leaves_tensorflow_alone(self):
        run("import pixpro_keras, sys; assert not {'tensorflow', 'keras'} & set(sys.modules)")

    @pytest.mark.slow
    def test_a_subpackage_needs_no_import_of_its_own(self):
        run("import pixpro_keras; pixpro_keras.backbones.build('resnet18_v1_5')")


if __name__ == "__main__":
    unittest.main()
