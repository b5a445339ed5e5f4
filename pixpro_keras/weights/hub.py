"""Giving an export away on the Hugging Face Hub."""

import os
import pathlib
from typing import Any

from pixpro_keras.utils.checksums import SUMS_FILE, ManifestError, check_files, read_manifest

_CARD = "README.md"


def files_to_upload(folder: str | os.PathLike) -> list[str]:
    """The model card, the checksums and the files they list, relative to the folder.

    Raises:
        ValueError: if the folder is no export, or a file is not what its checksum says.
    """
    folder = pathlib.Path(folder)
    for name in (_CARD, SUMS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: no {name} there, so it is not an export")
    try:
        check_files(folder / SUMS_FILE)
    except ManifestError as error:
        raise ValueError(str(error)) from error
    return sorted([_CARD, SUMS_FILE, *read_manifest(folder / SUMS_FILE)])


def upload(
    folder: str | os.PathLike,
    repo: str,
    *,
    is_private: bool = False,
    message: str = "Upload a backbone",
    api: Any = None,
) -> str:
    """Sends an export to a repository of models, which is created where it is missing.

    Args:
        folder: of the export.
        repo: `owner/name`.
        is_private: whether a new repository is visible to its owners only.
        message: of the commit.
        api: with `create_repo` and `upload_folder` of `huggingface_hub.HfApi`; default: that, with
            the token of `hf auth login` or of the environment variable `HF_TOKEN`.

    Returns:
        The repository's address.

    Raises:
        ValueError: if there is nothing whole to upload.
        ImportError: if `huggingface_hub` is not installed.
        OSError: if the Hub refuses or cannot be reached.
    """
    files = files_to_upload(folder)
    if api is None:
        try:
            import huggingface_hub
        except ImportError as error:
            raise ImportError(
                "uploading needs huggingface_hub: pip install 'pixpro-keras[hub]'"
            ) from error
        api = huggingface_hub.HfApi(library_name="pixpro_keras")
    address = api.create_repo(repo, repo_type="model", private=is_private, exist_ok=True)
    api.upload_folder(
        repo_id=repo,
        repo_type="model",
        folder_path=os.fspath(folder),
        allow_patterns=[_literally(name) for name in files],
        commit_message=message,
    )
    return str(address)


def _literally(name: str) -> str:
    """The pattern of `fnmatch` that a name alone matches."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
