"""The jobs of `experiments/` as commands of an installed package: `pixpro-pretrain` and its like."""

import pathlib
import runpy
import sys

_PACKAGE = pathlib.Path(__file__).resolve().parent


def main() -> None:
    """Runs the script that the command is named for: `experiments/knn.py` for `pixpro-knn`."""
    run(pathlib.Path(sys.argv[0]).stem.removeprefix("pixpro-").replace("-", "_"))


def run(script: str) -> None:
    """Runs a script of `experiments/` as `python experiments/SCRIPT.py` does.

    Args:
        script: its name, without `.py`; it reads its flags from `sys.argv[1:]`.
    """
    folder = _PACKAGE / "experiments"  # where the wheel puts it
    if not folder.is_dir():
        folder = _PACKAGE.parent / "experiments"  # in the repository
    sys.path.insert(0, str(folder))  # scripts import each other by bare names
    runpy.run_path(str(folder / f"{script}.py"), run_name="__main__")
