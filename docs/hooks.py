"""Hooks of mkdocs.yml: formulas without scripts, the presets' table, search without a network."""

import html
import pathlib
import re

import latex2mathml.converter

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_FORMULA = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)
_INCLUDE = re.compile(r"^<!-- include (\S+) -->$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")

# Script of the theme's offline search, which would come from another server.
_SHIM = "https://unpkg.com/iframe-worker/shim"


def on_page_markdown(markdown, **kwargs):
    """Puts a file of the repository in the place of `<!-- include PATH -->`, without its title."""

    def read(match):
        text = (_ROOT / match[1]).read_text()
        text = text.partition("\n")[2] if text.startswith("# ") else text
        return _LINK.sub(r"\1", text)  # its links lead to files that are not pages

    return _INCLUDE.sub(read, markdown)


def on_page_content(content, **kwargs):
    """Turns formulas into MathML, which browsers draw by themselves."""

    def convert(match):
        display = "block" if match[1] == "div" else "inline"
        return latex2mathml.converter.convert(html.unescape(match[2]).strip(), display=display)

    return _FORMULA.sub(convert, content)


def on_post_page(output, **kwargs):
    """Takes the script of the offline search from this folder."""
    return output.replace(_SHIM, "assets/file_worker.js")
