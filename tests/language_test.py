"""Language of docstrings, flag helps and pages: openers and American spelling."""

import ast
import functools
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
CODE = ("pixpro_keras", "experiments", "benchmarks", "tests")
# Calls whose strings are helps of flags.
_FLAGS = ("option", "with_default", "DEFINE_")
_OPENER = re.compile(r"(What|Which|Where|How|Whether|When|Who|Why)\b")
# Spelled in parts, so that this file passes its own test.
_BRITISH = re.compile(
    "(?:colo" "ur|behavio" "ur|neighbo" "ur|favo" "ur|gr" "ey|cent" "re|label" "led|label" "ling|licen" "ce|"
    "catalog" "ue|artef" "act|lear" "nt|towar" "ds|"
    "(?:optim|normal|initial|serial|standard|synchron|visual|recogn|summar|minim|maxim|general|regular|"
    "organ|special|local|quant|vector|token|equal|random|emphas|parametr)is(?:e|ed|es|er|ing|ation))",
    re.IGNORECASE,
)  # fmt: skip


def sources():
    """Python files of the project."""
    for folder in CODE:
        yield from sorted((ROOT / folder).rglob("*.py"))


@functools.cache
def nodes(file):
    """Nodes of a file that hold docstrings or call something."""
    kinds = ast.FunctionDef | ast.ClassDef | ast.Module | ast.Call
    return [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)]


def first_lines(file):
    """Line number and first line of each docstring of a file."""
    for node in nodes(file):
        if not isinstance(node, ast.Call):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node.body[0].lineno, docstring.split("\n")[0]


def helps(file):
    """Line number and text of each help of a flag that a file defines."""
    for node in nodes(file):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1].startswith(_FLAGS):
            for argument in node.args:
                text = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    yield node.lineno, text.value


class LanguageTest(unittest.TestCase):
    def find(self, texts, pattern):
        """Fails with the place of every text that begins with the pattern."""
        found = [
            f"{file.relative_to(ROOT)}:{line}: {text}"
            for file in sources()
            for line, text in texts(file)
            if pattern.match(text)
        ]
        self.assertFalse(found, msg="\n".join(found))

    def test_docstrings_open_with_a_noun_or_a_verb(self):
        self.find(first_lines, _OPENER)

    def test_helps_open_with_a_noun_or_a_verb(self):
        self.find(helps, _OPENER)
        self.assertGreater(sum(len(list(helps(file))) for file in sources()), 100)

    def test_spelling_is_american(self):
        pages = [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]
        for folder in (*CODE, "docs"):
            for ending in ("py", "md", "cfg", "ipynb", "html"):
                pages += (ROOT / folder).rglob(f"*.{ending}")
        found = [
            f"{page.relative_to(ROOT)}:{number}: {match[0]}"
            for page in pages
            for number, line in enumerate(page.read_text().split("\n"), 1)
            for match in _BRITISH.finditer(line)
        ]
        self.assertFalse(found, msg="\n".join(found))


if __name__ == "__main__":
    unittest.main()
