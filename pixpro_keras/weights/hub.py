"""Upload of an export to the Hugging Face Hub."""

import os
import pathlib
from typing import Any

from pixpro_keras.utils.checksums import SUMS_FILE, ManifestError, check_files, read_manifest
from pixpro_keras.weights.card import CARD_FILE


def files_to_upload(folder: str | os.PathLike) -> list[str]:
    """The model card, the checksums and the files they list, relative to the folder.

    Args:
        folder: folder of an export.

    Raises:
        ValueError: if the folder is no export, or a file does not match its checksum.

    Example:
        ```python
        import tempfile

        import pixpro_keras
        from pixpro_keras.weights.hub import files_to_upload

        folder, name = tempfile.mkdtemp(), "resnet18_v1_5"
        pixpro_keras.export_backbone(pixpro_keras.backbones.build(name), name, folder)
        pixpro_keras.write_card(folder, name, title="My backbone", facts={})
        assert files_to_upload(folder) == ["README.md", "SHA256SUMS", "backbone.keras"]
        ```
    """
    folder = pathlib.Path(folder)
    for name in (CARD_FILE, SUMS_FILE):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: no {name} there, so it is not an export")
    try:
        check_files(folder / SUMS_FILE)
    except ManifestError as error:
        raise ValueError(str(error)) from error
    return sorted([CARD_FILE, SUMS_FILE, *read_manifest(folder / SUMS_FILE)])


def upload(
    folder: str | os.PathLike,
    repo: str,
    *,
    is_private: bool = False,
    message: str = "Upload a backbone",
    api: Any = None,
) -> str:
    """Uploads an export to a model repository, which is created if it does not exist.

    Args:
        folder: folder of the export.
        repo: `owner/name`.
        is_private: whether a new repository is private.
        message: commit message.
        api: object with `create_repo` and `upload_folder` as in `huggingface_hub.HfApi`; default: an
            `HfApi` with the token of `hf auth login` or of the environment variable `HF_TOKEN`.

    Returns:
        The repository's address.

    Raises:
        ValueError: if the folder is no export, or a file does not match its checksum.
        ImportError: if `huggingface_hub` is not installed.
        OSError: if the Hub refuses or cannot be reached.

    Example:
        ```python
        import tempfile
        from unittest import mock

        import pixpro_keras
        from pixpro_keras.weights import upload

        folder, name = tempfile.mkdtemp(), "resnet18_v1_5"
        pixpro_keras.export_backbone(pixpro_keras.backbones.build(name), name, folder)
        pixpro_keras.write_card(folder, name, title="My backbone", facts={})
        api = mock.Mock()  # leave `api` out to use the Hub
        upload(folder, "owner/name", is_private=True, api=api)
        ```
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
        allow_patterns=[_escape(name) for name in files],
        commit_message=message,
    )
    return str(address)


def _escape(name: str) -> str:
    """Pattern for `fnmatch` that matches only the name."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
