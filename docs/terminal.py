"""Runs a command in a terminal of 100 columns and writes what it shows as an SVG.

    python docs/terminal.py docs/pictures/quickstart.svg python -m pixpro_keras.quickstart

Of lines that are drawn again and again, as a progress bar, the last state is kept.
"""

import io
import os
import pathlib
import pty
import shlex
import subprocess
import sys
import termios

from rich.console import Console
from rich.text import Text

_COLUMNS = 100
# rich's own format loads a font from a server.
_FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g>
</svg>
"""


def record(command: list[str]) -> str:
    """Runs a command in a terminal; returns all that it writes there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, _COLUMNS))
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
                sys.stdout.buffer.write(part)
                sys.stdout.flush()
        except OSError:  # the other end is closed
            pass
    os.close(ours)
    if process.returncode:
        raise SystemExit(process.returncode)
    lines = b"".join(parts).decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r")[2] for line in lines)


def to_svg(command: list[str], text: str) -> str:
    """SVG of a terminal after a command."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), shlex.join(command)))
    console.print(Text.from_ansi(text), soft_wrap=False)
    return console.export_svg(title="", code_format=_FORMAT, unique_id="terminal")


if __name__ == "__main__":
    _, path, *command = sys.argv
    pathlib.Path(path).write_text(to_svg(command, record(command)))
