"""Uploads an exported backbone with its model card to the Hugging Face Hub.

pixpro-upload --input=runs/mine --repo=OWNER/NAME --dry_run
pixpro-upload --input=runs/mine --repo=OWNER/NAME --private

Needs `pip install 'pixpro-keras[hub]'` and a token: `hf auth login`, or the environment variable HF_TOKEN.
"""

import dataclasses
import pathlib
import re

from pixpro_keras.cli.options.flag_errors import flag_errors
from pixpro_keras.cli.options.option_fields import Options, option
from pixpro_keras.cli.shared import command


@dataclasses.dataclass(frozen=True, kw_only=True)
class UploadOptions(Options):
    """Options of an upload."""

    input: str | None = option(
        None, "Folder of a run, of its export, or of a conversion. Default: --workdir."
    )
    workdir: str = option("runs/pretrain", "Directory of a run, where --input is not given.")
    repo: str = option(
        None,
        "Repository on the Hub: OWNER/NAME.",
        is_required=True,
        check=lambda value: re.fullmatch(r"[\w.-]+/[\w.-]+", value) is not None,
        must="be OWNER/NAME",
    )
    private: bool = option(False, "Make a new repository private.")
    dry_run: bool = option(False, "List the files that would be uploaded, and upload nothing.")
    message: str = option("Upload a backbone", "Commit message.")


def run(options: UploadOptions) -> None:
    """Uploads an export, or lists the files in a dry run."""
    # Imported here, so that --help does not load TensorFlow.
    from pixpro_keras.weights import hub

    flag = "input" if options.input else "workdir"
    folder = pathlib.Path(options.input or options.workdir).expanduser()
    if (folder / "export").is_dir():
        folder /= "export"
    with flag_errors(options, flag):
        files = hub.files_to_upload(folder)
    visibility = "private, if it is new" if options.private else "public, if it is new"
    print(f"To {options.repo} ({visibility}), from {folder}:")
    for name in files:
        print(f"  {(folder / name).stat().st_size:>12,} bytes  {name}")
    if options.dry_run:
        print("Nothing was sent.")
        return
    with flag_errors(options, "repo"):
        address = hub.upload(
            folder, options.repo, is_private=options.private, message=options.message
        )
    print(f"Uploaded: {address}")
    print(
        f"Load it: pixpro_keras.load_backbone(huggingface_hub.snapshot_download({options.repo!r}))"
    )


def main() -> None:
    """Runs the command."""
    command.run(UploadOptions, run, __doc__ or "")
