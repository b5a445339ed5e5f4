"""Layouts of annotation tools that are not supported, and hints for their conversion."""

import itertools
import json
import pathlib
from collections.abc import Iterator

_MOST_FILES = 50  # Number of files of a folder that are looked at.
_YAML = ("data.yaml", "dataset.yaml")
_MARKS = (*_YAML, "annotations.xml")
_EXPORT_AS_COCO = "export it as COCO"


def conversion_hint(root: pathlib.Path, split: str) -> str:
    """Hint with the layout of a folder and the conversion that it needs; empty if the layout is unknown.

    Args:
        root: folder of a data set.
        split: name of a split, which may be a folder in it.

    Example:
        ```python
        import pathlib
        import tempfile

        from pixpro_keras.detection.layouts import conversion_hint

        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "data.yaml").write_text("names: [cat]")
        print(conversion_hint(folder, "train"))  # ". data.yaml belongs to a YOLO export: ..."
        ```
    """
    for folder in (root, root / split, root / "annotations", root / "images"):
        names = sorted(_first_names(folder))
        yaml = next((name for name in names if name in _YAML), None)
        if yaml:
            return f". {yaml} belongs to a YOLO export: {_EXPORT_AS_COCO}, for coco:PATH"
        if "annotations.xml" in names:
            return (
                f". {folder / 'annotations.xml'} is CVAT's own format: export it as COCO 1.0, for coco:PATH, "
                "or as PASCAL VOC 1.1, for voc:PATH"
            )
        if any(_is_labelme(folder / name) for name in names if name.endswith(".json")):
            return (
                f". {folder} holds LabelMe's files, one for each image: convert them with LabelMe's "
                "labelme2coco.py, for coco:PATH"
            )
        images = {pathlib.PurePath(name).stem for name in names if not name.endswith(".xml")}
        if any(name.endswith(".xml") and name[:-4] in images for name in names):
            return (
                f". {folder} holds images and VOC's XML files side by side, as Roboflow writes them: "
                f"{_EXPORT_AS_COCO}, for coco:PATH"
            )
    return ""


def _first_names(folder: pathlib.Path) -> Iterator[str]:
    """Names of a few files of a folder, which may hold a hundred thousand."""
    if folder.is_dir():
        files = (path.name for path in folder.iterdir() if path.is_file())
        yield from itertools.islice(files, _MOST_FILES)
        yield from (name for name in _MARKS if (folder / name).is_file())


def _is_labelme(path: pathlib.Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()
