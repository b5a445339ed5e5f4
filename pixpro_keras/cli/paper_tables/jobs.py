"""Jobs of a table: commands made from rows and columns."""

import dataclasses
import itertools
import pathlib
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.paper_tables.definition import Row, Scale, Table, Transfer
from pixpro_keras.cli.paper_tables.pretrainings import PRETRAININGS
from pixpro_keras.cli.shared.command import program_of

ROOT = pathlib.Path(__file__).resolve().parents[3]
PRETRAIN = "pretrain"
_RESULTS = {PRETRAIN: "curves.png"}  # Written last. Other scripts write SCRIPT.json.


@dataclasses.dataclass(frozen=True)
class Job:
    """Command and its folder.

    Attributes:
        name: folder below `--workdir`: pre-training, seed, and `pretrain` or the transfer.
        script: name of the script in `experiments`, without its ending.
        flags: flags with `{data}` and `{workdir}` in the place of folders of this machine.
        after: the pre-training whose weights it takes.
    """

    name: str
    script: str
    flags: tuple[str, ...]
    after: "Job | None" = None

    @property
    def result(self) -> str:
        """File in the job's folder that marks it as finished."""
        return _RESULTS.get(self.script, f"{pathlib.Path(self.script).name}.json")


@dataclasses.dataclass(frozen=True)
class Places:
    """Folders of this machine.

    Attributes:
        workdir: `--workdir`, absolute.
        data: `--data`, absolute; None where it is not given.
    """

    workdir: pathlib.Path
    data: str | None = None

    def folder(self, job: Job) -> pathlib.Path:
        """Folder of a job."""
        return self.workdir / job.name

    def command(self, job: Job, python: str = sys.executable) -> list[str]:
        """Words of a job's command, to be run in the repository's folder if there is one."""
        script = pathlib.Path("experiments", f"{job.script}.py")
        is_here = (ROOT / script).is_file()
        program = [str(script)] if is_here else program_of(job.script)
        words = [*job.flags, "--workdir={workdir}/" + job.name]
        return [python, *program, *map(self.fill, words)]

    def fill(self, flag: str) -> str:
        """Fills the folders into a flag."""
        return flag.replace("{workdir}", str(self.workdir)).replace("{data}", str(self.data))


class Planner:
    """Makes the jobs of a scale.

    Args:
        scale: size of the jobs.
        overrides: `pretrain`, `all` or a transfer's name -> flags that come last.
        has_data: whether `--data` is given.

    Raises:
        FlagError: if an override names a job that the scale does not have.
    """

    def __init__(self, scale: Scale, overrides: Mapping[str, Sequence[str]], has_data: bool):
        self.scale = scale
        self._overrides = overrides
        self._has_data = has_data
        known = ["all", PRETRAIN, *(transfer.name for transfer in scale.transfers)]
        for name in overrides:
            if name not in known:
                raise FlagError(f"--override={name}:...: must begin with one of {', '.join(known)}")

    def pretraining(self, row: Row, transfer: Transfer) -> str | None:
        """Name of the pre-training of a cell; None if this scale has none."""
        name = row.pretraining
        if self.scale.is_paper:
            name = row.instead.get(transfer.name, name)
        return name if self.scale.is_paper or PRETRAININGS[name].flags is not None else None

    def transfer(self, row: Row, transfer: Transfer, seed: int) -> Job | None:
        """Job of a cell; None if this scale has none."""
        name = self.pretraining(row, transfer)
        if name is None:
            return None
        before = self._pretrain(name, seed)
        weights = self.scale.scratch
        if before is not None:
            weights = "--weights={workdir}/" + before.name
        flags = (*transfer.flags.split(), *weights.split(), *self._last(transfer.name, seed))
        return Job(f"{name}/seed{seed}/{transfer.name}", transfer.script, flags, before)

    def _pretrain(self, name: str, seed: int) -> Job | None:
        one = PRETRAININGS[name]
        if one.is_none:
            return None
        if self.scale.pretrain is None:
            flags = f"--flagfile=experiments/configs/pretrain/{one.preset}.cfg"
        else:
            flags = f"{self.scale.pretrain} {one.flags}".replace("{labeled}", self.scale.labeled)
        last = self._last(PRETRAIN, seed)
        return Job(f"{name}/seed{seed}/{PRETRAIN}", PRETRAIN, (*flags.split(), *last))

    def _last(self, name: str, seed: int) -> tuple[str, ...]:
        data = self.scale.data_flags.split() if self._has_data else ()
        overrides = (*self._overrides.get("all", ()), *self._overrides.get(name, ()))
        return (*data, f"--seed={seed}", *overrides)


def plan(
    planner: Planner,
    table: Table,
    seeds: Iterable[int],
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> list[Job]:
    """Jobs of a table in order: each after the job whose weights it uses.

    Args:
        planner: planner of the table's scale.
        table: table of the paper.
        seeds: all rows with the first seed come first.
        rows: names of the rows to run; empty: all.
        columns: names of the transfers to run, or `pretrain` for the pre-trainings alone; empty: all.

    Raises:
        FlagError: if a row or column does not exist.
    """
    transfers = columns_of(table, planner.scale)
    table_rows = table.rows_at(planner.scale)
    _check("rows", rows, [row.pretraining for row in table_rows])
    _check("columns", columns, [*(transfer.name for transfer in transfers), PRETRAIN])
    jobs: dict[str, Job] = {}
    for seed, row, transfer in itertools.product(seeds, table_rows, transfers):
        job = planner.transfer(row, transfer, seed)
        if job is None or (rows and row.pretraining not in rows):
            continue
        is_wanted = not columns or transfer.name in columns
        if job.after is not None and (is_wanted or PRETRAIN in columns):
            jobs.setdefault(job.after.name, job.after)
        if is_wanted:
            jobs.setdefault(job.name, job)
    return list(jobs.values())


def columns_of(table: Table, scale: Scale) -> Sequence[Transfer]:
    """Transfers of a table: the paper's, or their counterparts at another scale."""
    if scale.is_paper:
        return [scale.transfer(name) for name in table.transfers]
    return scale.transfers


def missing_data(jobs: Iterable[Job], places: Places) -> list[str]:
    """Missing folders below `--data`."""
    wanted = {
        path for job in jobs for flag in job.flags for path in re.findall(r"\{data\}[^+]*", flag)
    }
    return sorted(path for path in map(places.fill, wanted) if not pathlib.Path(path).exists())


def print_commands(jobs: Iterable[Job], places: Places) -> None:
    """Prints each command on a line, after a comment with its dependencies."""
    print(f"# In {ROOT}:")
    for job in jobs:
        print(f"# {job.name}" + (f", after {job.after.name}" if job.after is not None else ""))
        print(shlex.join(places.command(job, "python")))


def _check(flag: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            raise FlagError(f"--{flag}={','.join(wanted)}: {name!r} is none of {', '.join(known)}")
