"""Flags that several jobs share, and how a job starts, fails and records its flags."""

import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NoReturn

from absl import app, flags, logging

from pixpro_keras.cli.shared import presets
from pixpro_keras.data.broken_images import BrokenImagesError
from pixpro_keras.training.callbacks import TrainingDivergedError
from pixpro_keras.training.checkpoints import CheckpointError, SaveError
from pixpro_keras.training.strategy import STRATEGIES
from pixpro_keras.training.workers import WorkerLostError
from pixpro_keras.utils.files import write_atomically

FLAGS = flags.FLAGS
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")

flags.DEFINE_enum(
    "strategy",
    "auto",
    STRATEGIES,
    "Which devices train together. auto takes the TPU named by TPU_NAME, else the machines of "
    "--cluster if TF_CONFIG is set, else all GPUs of this machine where it has several, else one device.",
)
flags.DEFINE_enum(
    "precision",
    "float32",
    PRECISIONS,
    "Dtype policy; weights stay float32. mixed_float16 is for NVIDIA GPUs, mixed_bfloat16 for TPUs, "
    "newer GPUs and CPUs with AVX512-BF16 or AMX.",
)
flags.DEFINE_integer("seed", 0, "Seed of initialisation, sample order and augmentation.")
flags.DEFINE_string(
    "workdir", "runs/pretrain", "Directory of the run: flags, checkpoints, logs, pictures, export."
)
flags.DEFINE_string(
    "data_dir", None, "Where TFDS keeps prepared data sets. Default: ~/tensorflow_datasets."
)


class FlagError(ValueError):
    """A flag whose value cannot be used; the message names both."""


# What a user can mend, and therefore reads as one line instead of a traceback.
USER_ERRORS = (
    FlagError,
    CheckpointError,
    SaveError,
    TrainingDivergedError,
    BrokenImagesError,
    WorkerLostError,
)


def must_be_positive(*names: str) -> None:
    """Refuses zero and negative values of number flags while they are parsed."""
    for name in names:
        flags.register_validator(
            name, lambda value: value is None or value > 0, message="must be positive"
        )


@contextlib.contextmanager
def blame(*names: str) -> Iterator[None]:
    """Turns an error of the library about an argument into one about the flags it came from."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:  # of imports: an extra that is missing
        if isinstance(error, USER_ERRORS):
            raise
        values = " ".join(FLAGS[name].serialize() or f"--{name}" for name in names)
        raise FlagError(f"{values}: {error}") from error


def run(main: Callable[[list[str]], int | None]) -> None:
    """`absl.app.run` that ends on users' errors with one line and exit code 1."""

    def parse(argv: list[str]) -> list[str]:
        try:
            return FLAGS(presets.expand(argv))
        except flags.Error as error:
            _fail(error)

    def guarded(argv: list[str]) -> int | None:
        logging.use_absl_handler()
        try:
            if len(argv) > 1:
                raise FlagError(f"unexpected argument {argv[1]!r}: flags start with --")
            return main(argv)
        except USER_ERRORS as error:
            _fail(error)

    app.run(guarded, flags_parser=parse)


def _fail(error: Exception) -> NoReturn:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(1)


def prepare_workdir() -> pathlib.Path:
    """Creates `--workdir` and makes sure that it can be written.

    Raises:
        FlagError: if it cannot.
    """
    workdir = pathlib.Path(FLAGS.workdir).expanduser()
    with blame("workdir"):
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    return workdir


def write_flags(workdir: pathlib.Path, but: tuple[str, ...] = ()) -> None:
    """Writes `flags.cfg`: the value of every flag of the job, which alone repeats the run.

    When the run goes on with other flags than it began with, the log says which.

    Args:
        workdir: where it goes.
        but: flags that are left out.
    """
    directory = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    modules = FLAGS.flags_by_module_dict()
    lines = sorted(
        flag.serialize()
        for module, module_flags in modules.items()
        if _module_file(module).startswith(directory + os.sep)
        for flag in module_flags
        if flag.value is not None and flag.name not in but
    )
    file = workdir / "flags.cfg"
    if file.exists():
        before, now = set(file.read_text().splitlines()), set(lines)
        if before != now:
            logging.warning(
                "This run began with other flags: was %s, is %s",
                " ".join(sorted(before - now)) or "default",
                " ".join(sorted(now - before)) or "default",
            )
    write_atomically(file, ("\n".join(lines) + "\n").encode())


def _module_file(module: str) -> str:
    if os.path.isabs(module) or module == sys.argv[0]:
        return os.path.abspath(module)
    return os.path.abspath(getattr(sys.modules.get(module), "__file__", None) or "")
