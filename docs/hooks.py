"""Hooks of mkdocs.yml: formulas without scripts, included files, links of notebooks, no foreign scripts."""

import html
import pathlib
import re

import latex2mathml.converter

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_FORMULA = re.compile(r'<(div|span) class="arithmatex">\\[\[(](.*?)\\[\])]</\1>', re.DOTALL)
_INCLUDE = re.compile(r"^<!-- include (\S+) -->$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")
_CODE = re.compile(r"<code>([^<\n]+)</code>")
_LONGEST = 36  # characters of code that stay on one line

# Script of a notebook's page that would fetch another for diagrams, of which there are none.
_DIAGRAMS = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL)

# Script of the theme's offline search, which would come from another server.
_SHIM = "https://unpkg.com/iframe-worker/shim"


def on_page_markdown(markdown, **kwargs):
    """Puts a file of the repository in the place of `<!-- include PATH -->`, without its title."""

    def read(match):
        text = (_ROOT / match[1]).read_text()
        text = text.partition("\n")[2] if text.startswith("# ") else text
        return _LINK.sub(r"\1", text)  # its links lead to files that are not pages

    return _INCLUDE.sub(read, markdown)


def on_page_content(content, page, config, **kwargs):
    """Turns formulas into MathML, which browsers draw by themselves; keeps flags whole."""

    def convert(match):
        display = "block" if match[1] == "div" else "inline"
        return latex2mathml.converter.convert(html.unescape(match[2]).strip(), display=display)

    content = _CODE.sub(_keep_flags_whole, content)
    path = page.file.src_uri
    if path.endswith(".ipynb"):
        content = _notebook_links(path, config.repo_url) + content
    return _FORMULA.sub(convert, content)


def _keep_flags_whole(match):
    code = match[1]
    if len(code) <= _LONGEST:
        return f'<code class="short">{code}</code>'
    words = [
        f'<span class="short">{word}</span>'
        if len(word) <= _LONGEST
        else re.sub("([/_])", r"\1<wbr>", word)
        for word in code.split(" ")
    ]
    return f"<code>{' '.join(words)}</code>"


def _notebook_links(path, repository):
    links = [f'<a href="{path.rpartition("/")[2]}" download>Download this notebook</a>']
    if repository and "github.com/" in repository:
        place = repository.rstrip("/").partition("github.com/")[2]
        address = f"https://colab.research.google.com/github/{place}/blob/main/docs/{path}"
        links.insert(0, f'<a href="{address}">Open in Colab</a>')
    return f"<p>{' · '.join(links)}</p>"


def on_post_page(output, page, **kwargs):
    """Takes the script of the offline search from this folder, and none from elsewhere."""
    script = "../" * page.url.count("/") + "assets/file_worker.js"
    # It would ask for the repository's number of stars.
    output = output.replace(' data-md-component="source"', "")
    return _DIAGRAMS.sub("", output).replace(_SHIM, script)
