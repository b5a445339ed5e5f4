"""Flag files by path, or by the name of a preset that comes with the package."""

import difflib
import pathlib
from collections.abc import Iterable

from pixpro_keras.cli.options.option_fields import FlagError

_PACKAGE = pathlib.Path(__file__).resolve().parents[2]
# Folder of the presets in the wheel and in the repository.
_IN_REPOSITORY = ("experiments", "configs")
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent.joinpath(*_IN_REPOSITORY))
CONFIGS = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])


def find(name: str) -> pathlib.Path:
    """Returns the file of that path, else the preset whose path ends with it.

    Args:
        name: `runs/mine/flags.cfg`, `quickstart.cfg`, `pretrain/quickstart.cfg`, or
            `experiments/configs/pretrain/quickstart.cfg` as presets name each other.

    Raises:
        FlagError: if there is neither.
    """
    path = pathlib.Path(name).expanduser()
    if path.is_file():
        return path
    parts = path.parts
    if parts[:2] == _IN_REPOSITORY:  # The wheel has them elsewhere.
        parts = parts[2:]
    presets = [p for p in CONFIGS.rglob("*.cfg") if p.parts[-len(parts) :] == parts]
    if len(presets) != 1:
        names = sorted(p.name for p in CONFIGS.rglob("*.cfg"))
        close = difflib.get_close_matches(path.name, names, n=2)
        hint = f"; did you mean {' or '.join(close)}?" if close else f" in {CONFIGS}"
        raise FlagError(f"--flagfile={name}: no such file, and no preset{hint}")
    return presets[0]


def expand(
    argv: Iterable[str], inside: tuple[pathlib.Path, ...] = (), *, is_read: bool = True
) -> list[str]:
    """Returns the command line with the lines of flag files in the place of `--flagfile`.

    absl reads flag files itself, but by path only, and presets name their base by its path in the
    repository, which an installed package does not have.

    Args:
        argv: the command line.
        inside: flag files that are being read.
        is_read: whether flag files are read; otherwise they are left out.

    Raises:
        FlagError: if one does not exist, cannot be read or includes itself.
    """
    expanded: list[str] = []
    rest = iter(argv)
    for argument in rest:
        flag, equals, name = argument.partition("=")
        if argument == "--":
            return [*expanded, argument, *rest]
        if flag not in ("--flagfile", "-flagfile"):
            expanded.append(argument)
            continue
        name = name if equals else next(rest, "")
        if not is_read:
            continue
        path = find(name)
        if path in inside:
            raise FlagError(f"--flagfile={path}: includes itself")
        try:
            lines = [line.strip() for line in path.read_text().splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise FlagError(f"--flagfile={path}: {error}") from error
        own = [line for line in lines if line and not line.startswith(("#", "//"))]
        expanded += expand(own, (*inside, path))
    return expanded
