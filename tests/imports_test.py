"""Who imports whom: an arrow may skip levels but never points back."""

import ast
import pathlib
import unittest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "pixpro_keras"
# From the bottom up. A module may import its own package and those of lower levels.
LEVELS = [
    {"types", "utils", "version"},
    {"ops"},
    {"geometry", "task"},
    {"losses", "layers", "optimizers"},
    {"backbones"},
    {"methods", "data"},
    {"training", "weights"},
    {"evaluation"},
    {"segmentation", "detection"},
    {"visualize"},
    {"cli"},
    {"quickstart"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# `losses` take masks as arguments; `evaluation` and its like receive a backbone, never a method.
FORBIDDEN = {
    "losses": {"geometry"},
    "evaluation": {"methods"},
    "segmentation": {"methods"},
    "detection": {"methods"},
    "weights": {"methods"},
}
ONLY_INSIDE_FUNCTIONS = {
    "torch",
    "onnx",
    "tf2onnx",
    "matplotlib",
    "sklearn",
    "keras_cv",
    "PIL",
    "huggingface_hub",
}


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node
            if node.module == "pixpro_keras":
                yield from ((f"pixpro_keras.{alias.name}", node) for alias in node.names)


class ImportsTest(unittest.TestCase):
    def setUp(self):
        self.files = {
            file: ast.parse(file.read_text())
            for file in PACKAGE.rglob("*.py")
            if file != PACKAGE / "__init__.py"
        }
        self.assertGreater(len(self.files), 20)

    def test_arrows_point_down(self):
        for file, tree in self.files.items():
            own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
            self.assertIn(own, LEVEL, f"{file}: say on which level this package is")
            for module, _ in imported_modules(tree):
                if not module.startswith("pixpro_keras."):
                    continue
                other = module.split(".")[1]
                if other == own or other.startswith("__"):
                    continue
                allowed = LEVEL[other] < LEVEL[own] and other not in FORBIDDEN.get(own, ())
                self.assertTrue(allowed, f"{file} must not import {module}")

    def test_flags_are_for_commands(self):
        for file, tree in self.files.items():
            if PACKAGE / "cli" in file.parents:
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module == "absl":
                    self.assertNotIn("flags", [a.name for a in node.names], str(file))

    def test_heavy_extras_are_imported_where_needed(self):
        for file, tree in self.files.items():
            top_level = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
            for module, node in imported_modules(tree):
                if module.split(".")[0] in ONLY_INSIDE_FUNCTIONS:
                    self.assertNotIn(node, top_level, f"{file} imports {module} at its top")


if __name__ == "__main__":
    unittest.main()
