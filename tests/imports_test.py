"""Imports: an arrow may skip levels but never points back; what is imported is declared, and used."""

import ast
import collections
import pathlib
import re
import subprocess
import sys
import types
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pixpro_keras"
# From the bottom up. A module may import its own package and those of lower levels.
LEVELS = [
    {"types", "utils", "version"},
    {"ops"},
    {"geometry"},
    {"losses", "layers", "optimizers"},
    {"backbones"},
    {"task"},
    {"methods", "data"},
    {"training", "weights"},
    {"evaluation"},
    {"segmentation", "detection"},
    {"visualize"},
    {"cli"},
    {"quickstart"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
# `evaluation` and its like receive a backbone, never a method.
FORBIDDEN = {
    "evaluation": {"methods"},
    "segmentation": {"methods"},
    "detection": {"methods"},
    "weights": {"methods"},
}
# Pure functions of tensors: masks come as arguments.
LOSSES_MAY_IMPORT = {"losses", "ops", "types", "utils"}
ONLY_INSIDE_FUNCTIONS = {
    "torch",
    "onnx",
    "tf2onnx",
    "matplotlib",
    "sklearn",
    "keras_cv",
    "keras_hub",
    "PIL",
    "huggingface_hub",
    "mlflow",
    "pyarrow",
    "safetensors",
    "wandb",
}
# Modules, and packages, that share a name because they share a subject.
SAME_NAMES = {
    "detection": {"detection", "visualize.detection"},
    "export": {"cli.export", "weights.export"},
    "fpn": {"layers.fpn", "weights.fpn"},
    "knn": {"cli.knn", "evaluation.knn"},
    "linear_probe": {"cli.linear_probe", "evaluation.linear_probe"},
    "registry": {"backbones.registry", "detection.registry"},
    "scenes": {"data.scenes", "data.sources.scenes"},
    "segmentation": {"segmentation", "visualize.segmentation"},
    "serving": {"detection.serving", "weights.serving"},
    "visualize": {"cli.visualize", "visualize"},
}
OF_USERS = {"hub", "keras-hub", "mlflow", "onnx", "torch", "viz", "wandb"}  # extras
# Distribution -> module, where they differ.
MODULE = {
    "absl-py": "absl",
    "mkdocstrings-python": "mkdocstrings",
    "mkdocs-material": "material",
    "mlflow-skinny": "mlflow",
    "pillow": "PIL",
    "pytest-xdist": "xdist",
    "scikit-learn": "sklearn",
}
# Declared and imported nowhere.
NOT_IMPORTED = {
    "importlib_resources": "TFDS imports it and does not always require it",
    "tensorboard": "TensorFlow's summary writers live in it",
    "ipykernel": "the kernel in which the notebooks run",
    "alembic": "mlflow's store in a file",
    "sqlalchemy": "mlflow's store in a file",
    "mypy": "a command",
    "ruff": "a command",
    "pytest-xdist": "pytest's option --numprocesses",
    "mkdocs-jupyter": "a plugin in mkdocs.yml",
    "mkdocs-material": "the theme in mkdocs.yml",
    "mkdocstrings-python": "a plugin in mkdocs.yml",
}
# Imported and declared nowhere.
NOT_DECLARED = {
    "atheris": "only for tests/coverage_guided_fuzz.py, which is run by hand",
    "kubernetes": "only in a pod that finds its peers; the error names it",
}


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node
            if node.module == "pixpro_keras":
                yield from ((f"pixpro_keras.{alias.name}", node) for alias in node.names)


def parse(*folders):
    return {file: ast.parse(file.read_text()) for x in folders for file in x.rglob("*.py")}


def third_party(trees):
    """Top-level names of modules from elsewhere, `pytest.importorskip("NAME")` among them."""
    names = {module for tree in trees for module, _ in imported_modules(tree)}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                names.add(node.args[0].value)
    benchmarks = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    own = {"pixpro_keras", "tests", *benchmarks, *sys.stdlib_module_names}
    return {name.split(".")[0] for name in names} - own


def declared():
    """Distributions of setup.py: those always installed, and those of each extra."""
    arguments = {}
    setuptools = types.SimpleNamespace(setup=arguments.update, find_packages=lambda **_: [])
    with mock.patch.dict(sys.modules, {"setuptools": setuptools}):
        code = (ROOT / "setup.py").read_text()
        exec(compile(code, "setup.py", "exec"), {"__file__": str(ROOT / "setup.py")})

    def names(requirements):
        return {re.match(r"[\w-]+", requirement).group() for requirement in requirements}

    extras = {extra: names(x) for extra, x in arguments["extras_require"].items()}
    return names(arguments["install_requires"]), extras


def module_of(distribution):
    return MODULE.get(distribution, distribution.replace("-", "_"))


class ImportsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = parse(PACKAGE)
        # The public face shows every level to type checkers.
        del cls.files[PACKAGE / "__init__.py"]

    def test_arrows_point_down(self):
        self.assertGreater(len(self.files), 20)
        wrong = []
        for file, tree in self.files.items():
            own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
            self.assertIn(own, LEVEL, f"{file}: say on which level this package is")
            for module, _ in imported_modules(tree):
                if not module.startswith("pixpro_keras."):
                    continue
                other = module.split(".")[1]
                if other == own or other.startswith("__"):
                    continue
                if LEVEL[other] >= LEVEL[own] or other in FORBIDDEN.get(own, ()):
                    wrong.append(f"{file} must not import {module}")
        self.assertEqual(wrong, [])

    def test_losses_import_ops_alone(self):
        for file in (PACKAGE / "losses").rglob("*.py"):
            for module, _ in imported_modules(self.files[file]):
                package, _, rest = module.partition(".")
                if package == "pixpro_keras" and rest:
                    self.assertIn(rest.split(".")[0], LOSSES_MAY_IMPORT, f"{file}: {module}")

    def test_flags_are_for_commands(self):
        for file, tree in self.files.items():
            if PACKAGE / "cli" in file.parents:
                continue
            for module, node in imported_modules(tree):
                names = [alias.name for alias in node.names] if module == "absl" else [module]
                self.assertFalse({"flags", "absl.flags"} & set(names), str(file))

    def test_heavy_extras_are_imported_where_needed(self):
        for file, tree in self.files.items():
            top_level = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
            for module, node in imported_modules(tree):
                if module.split(".")[0] in ONLY_INSIDE_FUNCTIONS:
                    self.assertNotIn(node, top_level, f"{file} imports {module} at its top")

    def test_commands_that_compute_nothing_do_not_wait_for_tensorflow(self):
        names = ", ".join(f"pixpro_keras.cli.{x}" for x in ("launch_local", "reproduce", "upload"))
        code = f"import sys, {names}; sys.exit('tensorflow' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode, 0)


class ModuleNamesTest(unittest.TestCase):
    def test_one_name_has_one_meaning(self):
        found = collections.defaultdict(set)
        for file in PACKAGE.rglob("*.py"):
            parts = file.relative_to(PACKAGE).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if parts:
                found[parts[-1]].add(".".join(parts))
        shared = {name: modules for name, modules in found.items() if len(modules) > 1}
        self.assertEqual(shared, SAME_NAMES)


class DependenciesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.required, cls.extras = declared()
        cls.by_package = third_party(parse(PACKAGE).values())
        cls.by_tests = third_party(parse(ROOT / "tests").values())
        cls.by_docs = third_party(parse(ROOT / "docs").values())

    def test_what_is_imported_is_declared(self):
        of_users = self.required.union(*(self.extras[x] for x in OF_USERS))
        of_developers = of_users | self.extras["dev"]
        for imported, distributions in (
            (self.by_package, of_users),
            (self.by_tests, of_developers),
            (self.by_docs, self.extras["docs"]),
        ):
            self.assertLessEqual(imported, {*map(module_of, distributions), *NOT_DECLARED})

    def test_what_is_declared_is_imported(self):
        for distributions, imported in (
            (self.required, self.by_package),
            (set().union(*(self.extras[x] for x in OF_USERS - {"onnx"})), self.by_package),
            (self.extras["onnx"], self.by_package | self.by_tests),
            (self.extras["dev"], self.by_package | self.by_tests),
            (self.extras["docs"], self.by_docs),
        ):
            used = {x for x in distributions if module_of(x) in imported}
            self.assertEqual(distributions - used - set(NOT_IMPORTED), set())

    def test_extras_are_in_the_table_of_the_quickstart(self):
        text = (ROOT / "docs" / "quickstart.md").read_text()
        self.assertEqual(
            set(re.findall(r"^\| `([a-z][\w-]*)` \| .*", text, re.MULTILINE)), set(self.extras)
        )

    def test_exceptions_are_needed(self):
        everything = self.required.union(*self.extras.values())
        imported = self.by_package | self.by_tests | self.by_docs
        self.assertLessEqual(set(NOT_IMPORTED), everything)
        self.assertFalse({*map(module_of, NOT_IMPORTED)} & imported)
        self.assertFalse(set(NOT_DECLARED) & {*map(module_of, everything)})
        self.assertLessEqual(set(NOT_DECLARED), imported)


if __name__ == "__main__":
    unittest.main()
