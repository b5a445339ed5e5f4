"""Submission of jobs to a cluster by a command of the user."""

import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.cli.paper_tables.job_records import (
    LOG,
    RECORD,
    Record,
    is_finished,
    read_record,
    resolved_flags,
)
from pixpro_keras.cli.paper_tables.jobs import ROOT, Job, Places


def check_template(template: str) -> list[str]:
    """Splits `--submit` into words and checks them.

    Raises:
        FlagError: if it is not a valid template.
    """
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise FlagError(f"--submit={template}: {error}") from error
    if not any("{command}" in word for word in words):
        raise FlagError(f"--submit={template}: {{command}} must mark the place of the command")
    return words


def submit_jobs(template: Sequence[str], jobs: Sequence[Job], places: Places, commit: str) -> int:
    """Submits jobs that are neither finished nor submitted, pre-trainings before transfers.

    Args:
        template: words, in which `{command}` is the job's command as one word, `{after}` the
            cluster's id of its pre-training, `{name}` the job's and `{log}` its log. A word with
            `{after}` is left out of a job that waits for nothing. Without one anywhere, transfers are
            submitted once their pre-training is finished.
        jobs: each after its pre-training.
        places: folders of this machine.
        commit: commit of the code.

    Returns:
        0; 1 if the command failed for a job.
    """
    is_chained = any("{after}" in word for word in template)
    num_failed = 0
    for job in jobs:
        folder = places.folder(job)
        earlier = read_record(folder)
        if is_finished(job, places):
            print(f"{job.name}: finished")
            continue
        if earlier is not None and earlier.submitted:
            print(
                f"{job.name}: submitted before as {earlier.submitted}; without {folder / RECORD} it is "
                "submitted again"
            )
            continue
        after = ""
        if job.after is not None and not is_finished(job.after, places):
            before = read_record(places.folder(job.after))
            after = before.submitted if before is not None and is_chained else ""
            if not after:
                print(f"{job.name}: waits for {job.after.name}; submit again when that is finished")
                continue
        folder.mkdir(parents=True, exist_ok=True)
        values = {"after": after, "name": job.name, "log": str(folder / LOG)}
        values["command"] = shlex.join(places.command(job, "python"))
        words = [_fill(word, values) for word in template if after or "{after}" not in word]
        result = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if result.returncode:
            print(
                f"{job.name}: NOT submitted, exit code {result.returncode} of {shlex.join(words)}"
            )
            num_failed += 1
            continue
        record = Record(resolved_flags(job), commit, submitted=job_id(result.stdout))
        record.write(folder)
        print(f"{job.name}: submitted as {record.submitted}")
    return 1 if num_failed else 0


def _fill(word: str, values: Mapping[str, str]) -> str:
    """Replaces placeholders, once: a folder may be called `{name}`."""
    return re.sub(r"\{(command|after|name|log)\}", lambda match: values[match[1]], word)


def job_id(printed: str) -> str:
    """Job id from the output of a submission: `123` of `Submitted batch job 123` and of `123;cluster`."""
    words = printed.split()
    return words[-1].partition(";")[0] if words else "unknown"
