"""Flags of the benchmarks in commands on pages and in the scripts' own docstrings."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
_OF_ABSL = {"helpshort", "helpfull"}


class CommandsTest(unittest.TestCase):
    def test_flags_exist(self):
        pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*")]
        checked = 0
        for page in filter(pathlib.Path.is_file, pages):
            text = page.read_text().replace("\\\n", " ")
            for script, arguments in re.findall(r"python benchmarks/(\w+\.py)([^\n`]*)", text):
                source = (ROOT / "benchmarks" / script).read_text()
                known = re.findall(r'"(?:--)?(\w+)"', source)
                for flag in set(re.findall(r" --(\w+)", arguments)) - _OF_ABSL:
                    checked += 1
                    with self.subTest(page=page.name, script=script, flag=flag):
                        self.assertIn(flag, known)
        self.assertGreater(checked, 30)


if __name__ == "__main__":
    unittest.main()
