"""Uploads an exported backbone with its model card to the Hugging Face Hub.

python experiments/upload.py --input=runs/mine --repo=OWNER/NAME --dry_run
python experiments/upload.py --input=runs/mine --repo=OWNER/NAME --private

Needs `pip install 'pixpro-keras[hub]'` and a token: `hf auth login`, or the environment variable HF_TOKEN.
"""

import pathlib
import re

from absl import flags

from pixpro_keras.cli.shared import common_flags
from pixpro_keras.cli.shared.common_flags import FLAGS, blame
from pixpro_keras.weights import hub

flags.DEFINE_string(
    "input", None, "Folder of a run, of its export, or of a conversion. Default: --workdir."
)
flags.DEFINE_string("repo", None, "OWNER/NAME of the repository of models.", required=True)
flags.DEFINE_boolean("private", False, "A new repository is visible to its owners only.")
flags.DEFINE_boolean("dry_run", False, "Say what would be sent, and send nothing.")
flags.DEFINE_string("message", "Upload a backbone", "Message of the commit.")
flags.register_validator(
    "repo",
    lambda value: re.fullmatch(r"[\w.-]+/[\w.-]+", value) is not None,
    message="must be OWNER/NAME",
)


def _main(argv: list[str]) -> int:
    """Runs the job and returns its exit code."""
    del argv
    flag = "input" if FLAGS.input else "workdir"
    folder = pathlib.Path(FLAGS.input or FLAGS.workdir).expanduser()
    if (folder / "export").is_dir():
        folder /= "export"
    with blame(flag):
        files = hub.files_to_upload(folder)
    visibility = "private, if it is new" if FLAGS.private else "public, if it is new"
    print(f"To {FLAGS.repo} ({visibility}), from {folder}:")
    for name in files:
        print(f"  {(folder / name).stat().st_size:>12,} bytes  {name}")
    if FLAGS.dry_run:
        print("Nothing was sent.")
        return 0
    with blame("repo"):
        address = hub.upload(folder, FLAGS.repo, is_private=FLAGS.private, message=FLAGS.message)
    print(f"Uploaded: {address}")
    print(f"Load it: pixpro_keras.load_backbone(huggingface_hub.snapshot_download({FLAGS.repo!r}))")
    return 0


def main() -> None:
    """Runs the command."""
    common_flags.run(_main)
