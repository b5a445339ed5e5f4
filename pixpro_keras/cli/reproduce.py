r"""Reproduces a table of the paper: runs all its pre-trainings and transfers and collects their results.

    pixpro-reproduce --table=3 --scale=tiny
    pixpro-reproduce --table=3 --scale=small --data=PATH --seeds=0,1,2
    pixpro-reproduce --table=3 --scale=paper --data=PATH
    pixpro-reproduce --table=3 --scale=paper --data=PATH \
        --submit='sbatch --parsable --gpus=8 --dependency=afterok:{after} --wrap {command}'

The first two run the jobs that are not finished, one after the other, and write after each of them
`table3.md`, `table3.json` and `table3.png` to `--workdir`. The same command continues after an
interruption and runs failed jobs again. The third prints the commands, the fourth submits them;
both write the table as far as there are results.
"""

import dataclasses
import fcntl
import os
import pathlib
import shlex
import sys
from collections.abc import Sequence

from pixpro_keras.cli.options.option_fields import FlagError, Options, option
from pixpro_keras.cli.paper_tables.job_records import differences, set_aside
from pixpro_keras.cli.paper_tables.jobs import (
    Job,
    Places,
    Planner,
    missing_data,
    plan,
    print_commands,
)
from pixpro_keras.cli.paper_tables.report import write_report
from pixpro_keras.cli.paper_tables.results import gather
from pixpro_keras.cli.paper_tables.runner import Runner, commit_of_code
from pixpro_keras.cli.paper_tables.scales import SCALES
from pixpro_keras.cli.paper_tables.submit import check_template, submit_jobs
from pixpro_keras.cli.paper_tables.tables import TABLES
from pixpro_keras.cli.shared import command


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReproduceOptions(Options):
    """Options of the paper's tables."""

    table: str = option(
        None,
        "Table of the paper.",
        choices=[str(number) for number in TABLES],
        is_required=True,
    )
    scale: str = option(
        "tiny",
        "tiny: a few steps on embedded scenes, which show that everything runs. small: ResNet-18 on a few "
        "thousand photographs, for two CPU cores. paper: the paper's recipes; the commands are printed.",
        choices=list(SCALES),
    )
    data: str | None = option(
        None,
        "Folder of the data sets. small: imagenet_sample, camvid, caltech101, voc_bccd, coco_pennfudan; "
        "paper: voc, coco, cityscapes, tfds; tiny: where TFDS keeps the scenes.",
    )
    workdir: str | None = option(
        None, "Folder of all runs and of the table. Default: results/SCALE."
    )
    seeds: tuple[str, ...] = option(
        ("0",),
        "Seeds; all rows run with the first seed before the next one.",
        check=lambda seeds: bool(seeds) and all(seed.isdecimal() for seed in seeds),
        must="be numbers, such as 0,1,2",
    )
    rows: tuple[str, ...] = option(
        (), "Rows to run, by their names in the printed commands. Default: all."
    )
    columns: tuple[str, ...] = option(
        (), "Transfers to run; pretrain: the pre-trainings alone. Default: all."
    )
    override: tuple[str, ...] = option(
        (),
        "A flag for some jobs, after all others: pretrain:FLAG, TRANSFER:FLAG or all:FLAG, for example "
        "pretrain:--iterations=300. May be repeated.",
        is_repeated=True,
        check=lambda flags: all(flag.partition(":")[2].startswith("--") for flag in flags),
        must="be like pretrain:--iterations=300",
    )
    dry_run: bool = option(False, "Print the commands without running them.")
    submit: str | None = option(
        None,
        "Command that submits a job to a cluster. {command} is replaced by the command of the job, as one"
        " word, {name} and {log} by its name and log file, and {after} by the job id, which the submission "
        "of its pre-training must print as its last word. The word with {after} is left out for a job that "
        "need not wait. Without {after}, transfers are submitted once their pre-training has finished.",
    )
    on_change: str = option(
        "stop",
        "Action if a job was run with other flags: stop, or move its folder away and run it again.",
        choices=("stop", "redo"),
    )


def run(options: ReproduceOptions) -> int:
    """Runs, prints or submits a table's jobs and returns the exit code.

    Raises:
        FlagError: if a flag or a result cannot be used.
    """
    try:
        return reproduce(options)
    except OSError as error:
        raise FlagError(str(error)) from error


def reproduce(options: ReproduceOptions) -> int:
    """Runs, prints or submits the jobs of the options.

    Raises:
        FlagError: if a flag or a result cannot be used.
    """
    table, scale = TABLES[int(options.table)], SCALES[options.scale]
    workdir = pathlib.Path(options.workdir or f"results/{scale.name}").expanduser().absolute()
    if options.data is None and scale.name != "tiny":
        raise FlagError(f"--data: must be given for --scale={scale.name}")
    data = None if options.data is None else os.path.abspath(os.path.expanduser(options.data))
    places = Places(workdir, data)
    seeds = [int(seed) for seed in options.seeds]
    overrides: dict[str, list[str]] = {}
    for override in options.override:
        name, _, flag = override.partition(":")
        overrides.setdefault(name, []).append(flag)
    planner = Planner(scale, overrides, data is not None)
    jobs = plan(planner, table, seeds, options.rows, options.columns)
    template = check_template(options.submit) if options.submit else None
    if options.dry_run:
        print_commands(jobs, places)
        return 0

    runs_here = template is None and not scale.is_paper
    missing = missing_data(jobs, places) if runs_here else []
    if missing:
        raise FlagError(f"--data={options.data}: there is no {', '.join(missing)}")
    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FlagError(
                f"--workdir={workdir}: another reproduce.py is running there"
            ) from error
        settle_changes(jobs, places, options.on_change)
        command_line = shlex.join(["python", "experiments/reproduce.py", *sys.argv[1:]])

        def report() -> pathlib.Path:
            return write_report(workdir, gather(table, planner, places, seeds), command_line)

        exit_code = 0
        if template is not None:
            exit_code = submit_jobs(template, jobs, places, commit_of_code())
        elif scale.is_paper:
            print_commands(jobs, places)
        else:
            exit_code = Runner(places, commit_of_code(), report).run(jobs)
        print(f"# {report()}" if scale.is_paper else report())
    return exit_code


def settle_changes(jobs: Sequence[Job], places: Places, on_change: str) -> None:
    """Sets the folders of jobs with other flags aside, or refuses them.

    Raises:
        FlagError: if there is one and `--on_change=stop`.
    """
    begin_anew = set()
    for job in jobs:
        found = differences(job, places)
        if job.after in begin_anew and places.folder(job).exists():
            found = found or ["its pre-training runs again"]
        if not found:
            continue
        if on_change == "stop":
            raise FlagError(
                f"{places.folder(job)} is of other flags ({'; '.join(found)}). --on_change=redo sets such "
                "folders aside and runs their jobs again; another --workdir leaves them as they are"
            )
        begin_anew.add(job)
        print(f"{job.name}: {'; '.join(found)}. Set aside: {set_aside(places.folder(job))}")


def main() -> None:
    """Runs the command."""
    command.run(ReproduceOptions, run, __doc__ or "")
