"""Runs what the README and the pages of `docs/` say, in the order of the site.

A comment in the line before a block says where it is treated otherwise:

- `not run: REASON`: not at all.
- `only parsed: REASON`: the flags of its commands are parsed, in their job.
- `shortened: A -> B, C -> D`: these parts of a Python block are replaced; ; stands for , in them.
- `needs MODULE: A -> B`: the same, where the module is installed.

All other commands train for one step on small images; one that an earlier page has, with the same flags, is
only parsed. Pages that go on with the run of the README are one test, the others another.
"""

import contextlib
import importlib.util
import io
import os
import pathlib
import re
import shlex

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from pixpro_keras import backbones
from pixpro_keras.weights import export_backbone
from tests.helpers.jobs import ROOT, run_job, write_photos

_README = "../README.md"
PAGES = [
    _README,
    *re.findall(r"^  - .*: (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE),
]
_RUN = "runs/mine"  # the README's, with which other pages go on
_BLOCK = re.compile(
    r"(?:^<!-- ([\w ]+): ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
_COMMANDS = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"launch_local"}
_SHORT = {
    "pretrain": [
        "--backbone=resnet10_v1_5",
        "--projector_hidden_dim=16",
        "--projector_dim=8",
        "--image_size=32",
        "--batch_size=4",
        "--epochs=1",
        "--steps_per_epoch=1",
        "--picture_every_steps=0",
        "--probe=none",
        "--dataset=folder:photos",
    ],
    "embed": ["--image_size=32"],
    "knn": ["--image_size=32", "--k=3"],
    "linear_probe": ["--image_size=32", "--epochs=1", "--batch_size=4"],
}


def blocks(page):
    """Kind of the marker, its text, language and content of each block of a page."""
    return _BLOCK.findall((ROOT / "docs" / page).read_text())


def is_of_the_run(page):
    """Tells if a page makes the README's run or goes on with it."""
    return any(
        kind not in ("not run", "only parsed") and _RUN in content
        for kind, _, _, content in blocks(page)
    )


def jobs(script):
    """Name and flags of each job that a bash block starts."""
    for line in script.replace("\\\n", " ").splitlines():
        words = [word for word in shlex.split(line) if word != "..."]
        for place, word in enumerate(words):
            if word == "pixpro_keras.quickstart":
                yield "pretrain", ["--flagfile=quickstart.cfg", *words[place + 1 :]]
                break
            # `experiments/pretrain.py`, `pixpro-pretrain`, or `pretrain` for the launcher.
            name = pathlib.Path(word).stem.removeprefix("pixpro-").replace("-", "_")
            if name in _COMMANDS and not word.startswith("-"):
                yield name, words[place + 1 :]
                break
        else:
            raise AssertionError(f"no job of this project: {line}")


def command_line(job, flags):
    """Name and flags of a job, with its preset as from any folder."""
    return job, *(re.sub(r"^--flagfile=.*/", "--flagfile=", flag) for flag in flags)


def first_pages():
    """Command line -> the first page that runs it."""
    pages = {}
    for page in PAGES:
        for kind, _, language, content in blocks(page):
            if not kind and language == "bash":
                for job in jobs(content):
                    pages.setdefault(command_line(*job), page)
    return pages


def write_masks(folder):
    """Writes images and masks of 11 classes, in the layout of CamVid."""
    rng = np.random.default_rng(0)
    for name, depth in (("images", 3), ("labels", 1)):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256 if depth == 3 else 11, (48, 64, depth), np.uint8)
            encode, ending = (tf.io.encode_jpeg, "jpg") if depth == 3 else (tf.io.encode_png, "png")
            (folder / name / f"{number}.{ending}").write_bytes(encode(pixels).numpy())


@pytest.mark.slow
class DocsTest(tf.test.TestCase, parameterized.TestCase):
    def succeed(self, job, flags):
        result = run_job(job, *flags, cwd=self.folder)
        self.assertEqual(result.returncode, 0, msg=f"{job} {flags}\n{result.stderr}")

    @parameterized.parameters(True, False)
    def test_every_block(self, of_the_run):
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        write_photos(self.folder / "photos")
        for split in ("train", "val"):
            for seed, name in enumerate(("one", "two")):
                write_photos(self.folder / "labeled" / split / name, count=6, seed=seed)
            write_masks(self.folder / "camvid" / split)
        if of_the_run:  # for the block of its constructor
            resnet18 = backbones.build("resnet18_v1_5")
            export_backbone(resnet18, resnet18.name, self.folder / "runs" / "resnet18" / "export")
        first = first_pages()
        for page in PAGES:
            if is_of_the_run(page) != of_the_run:
                continue
            namespace = {}
            for kind, text, language, content in blocks(page):
                with self.subTest(page=page, block=content):
                    needs, kind = re.fullmatch(r"(?:needs (\w+))?(.*)", kind).groups()
                    self.assertIn(kind, ("", "not run", "only parsed", "shortened"))
                    if kind == "not run" or (needs and not importlib.util.find_spec(needs)):
                        continue
                    self.assertIn(language, ("bash", "python"))
                    if language == "python":
                        self.run_python(content, text if needs or kind else "", namespace)
                        continue
                    for job, flags in jobs(content):
                        is_run = not kind and first[command_line(job, flags)] == page
                        last = _SHORT.get(job, []) if is_run else ["--only_check_args"]
                        self.succeed(job, [*flags, *last])

    def test_blocks_are_found(self):
        everywhere = ("", "only parsed", "shortened")
        languages = [one[2] for page in PAGES for one in blocks(page) if one[0] in everywhere]
        for language in ("bash", "python"):
            self.assertGreater(languages.count(language), 2)

    def test_commands_in_tables(self):
        """Flags of the commands in the README's tables exist."""
        self.folder = pathlib.Path(self.create_tempdir().full_path)
        commands = re.findall(r"\| `(pixpro-[^`]*)`", (ROOT / "README.md").read_text())
        self.assertGreater(len(commands), 5)
        for command in commands:
            for job, flags in jobs(command):
                with self.subTest(command=command):
                    self.succeed(job, [*flags, "--only_check_args"])

    def test_the_readme_is_short(self):
        self.assertLessEqual(len((ROOT / "README.md").read_text().splitlines()), 140)

    def run_python(self, content, shortened, namespace):
        for pair in filter(None, shortened.split(", ")):
            if " -> " not in pair:
                continue
            long, short = pair.replace(";", ",").split(" -> ")
            self.assertIn(long, content)
            content = content.replace(long, short)
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(content, "docs", "exec"), namespace)
        finally:
            os.chdir(before)
        # What a print says it prints.
        for said in re.findall(r"print\(.*\)  # (.*)", content):
            self.assertIn(said, output.getvalue().splitlines())

    def test_markers_stand_before_blocks(self):
        for page in PAGES:
            text = (ROOT / "docs" / page).read_text()
            used = sum(bool(kind) for kind, *_ in blocks(page))
            comments = re.findall(r"^<!-- (?!include ).*-->$", text, re.MULTILINE)
            self.assertLen(comments, used, msg=page)

    def test_every_page_is_on_the_site(self):
        pages = {path.name for path in (ROOT / "docs").glob("*.md")}
        self.assertEqual(pages, set(PAGES) - {_README})

    def test_tests_that_are_named_are_there(self):
        named = r"(tests/[a-z0-9_/]*_test\.py)(?:`? `(test_\w+)`)?"
        for page in PAGES:
            for file, test in re.findall(named, (ROOT / "docs" / page).read_text()):
                self.assertTrue((ROOT / file).exists(), msg=f"{page}: {file}")
                is_there = f"def {test}" in (ROOT / file).read_text()
                self.assertTrue(is_there, msg=f"{page}: {file} {test}")

    def test_pictures_are_there_and_small(self):
        shown = {
            (ROOT / "docs" / page).parent / path
            for page in PAGES
            for path in re.findall(r"!\[[^]]*\]\((\S+)\)", (ROOT / "docs" / page).read_text())
        }
        names = {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
        self.assertEqual({path.name for path in shown}, names)
        for path in shown:
            self.assertLess(path.stat().st_size, 300_000, msg=path)

    def test_recordings_load_nothing(self):
        for path in (ROOT / "docs" / "pictures").glob("*.svg"):
            addresses = set(re.findall(r"https?://[^\"' )]+", path.read_text()))
            self.assertEqual(addresses, {"http://www.w3.org/2000/svg"})  # a name, not an address


if __name__ == "__main__":
    tf.test.main()
