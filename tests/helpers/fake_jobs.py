"""Jobs of a few milliseconds."""

import dataclasses
import json
import pathlib

from pixpro_keras.cli.paper_tables.job_records import resolved_flags
from pixpro_keras.cli.paper_tables.jobs import Job, Places

# Does what its flags say; `--fail` only while there is no file of that name.
_SCRIPT = """
import json, os, pathlib, signal, sys

flags = dict(one[2:].partition("=")[::2] for one in sys.argv[1:])
workdir = pathlib.Path(flags["workdir"])
(workdir / "flags.cfg").write_text("\\n".join(sys.argv[1:]))
with open(workdir / "ran", "a") as file:
    file.write("x")
if "fail" in flags and not pathlib.Path(flags["fail"]).exists():
    sys.exit("error: --fail: as it was told")
if "signal" in flags and len((workdir / "ran").read_text()) == 1:
    def stop(number, frame):
        print("saved")
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    os.kill(os.getppid(), int(flags["signal"]))
    while True:
        signal.pause()
name = pathlib.Path(sys.argv[0]).stem
(workdir / f"{name}.json").write_text(json.dumps({"AP": float(flags.get("ap", 0.5))}))
"""


class Fakes:
    """Folder with a script and jobs that run it.

    Args:
        root: an empty folder.
    """

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.script = self.root / "fake"
        self.script.with_suffix(".py").write_text(_SCRIPT)
        self.places = Places(self.root / "results", str(self.root / "data"))

    def job(self, name, *flags, after=None):
        return Job(name, str(self.script), flags, after)

    def times_run(self, job):
        file = self.places.folder(job) / "ran"
        return len(file.read_text()) if file.exists() else 0


def finish_by_hand(places, job, results):
    """Writes the flags and result of a job that ran without a record."""
    folder = places.folder(job)
    folder.mkdir(parents=True)
    lines = []
    for name, value in resolved_flags(dataclasses.replace(job, after=None)).items():
        # As absl writes them.
        words = {"true": f"--{name}", "false": f"--no{name}", "1e-4": f"--{name}=0.0001"}
        lines.append(words.get(value, f"--{name}={places.fill(value)}"))
    (folder / "flags.cfg").write_text("\n".join(lines))
    (folder / job.result).write_text(json.dumps(results))
