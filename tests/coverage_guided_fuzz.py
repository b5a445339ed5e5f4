"""Coverage-guided search for input that a reader neither reads nor refuses.

By hand, since it takes as long as it is given (`pip install atheris`):

    PYTHONPATH=. python tests/coverage_guided_fuzz.py --reader=coco -max_total_time=300

Readers: coco, voc, tfrecord, manifest, masks. What `fuzz_test.py` and `fuzz_annotations_test.py` assert of
a few inputs is asserted here of as many as time allows; the first that breaks it ends the search.
"""

import pathlib
import sys
import tempfile

import atheris
import numpy as np

with atheris.instrument_imports(include=["pixpro_keras", "xml", "json"]):
    from pixpro_keras.data.sources import RecordFiles
    from pixpro_keras.detection import instance_masks
    from pixpro_keras.detection.datasets import open_boxes
    from pixpro_keras.utils.checksums import ManifestError, check_files

from tests.helpers.examples import write_coco, write_voc

ROOT = pathlib.Path(tempfile.mkdtemp())


def read_boxes(kind: str, split: str, file: pathlib.Path, content: bytes) -> None:
    """Boxes and masks of an annotation file."""
    file.write_bytes(content)
    try:
        source = open_boxes(f"{kind}:{ROOT}", split)
    except ValueError:
        return
    for size, one in zip(source.sizes, source.objects, strict=True):
        for segmentation in one.segmentations or ():
            assert instance_masks.decode(segmentation, *map(int, size)).max() <= 1


def coco(content: bytes) -> None:
    """`instances_train2017.json`."""
    read_boxes("coco", "train2017", ROOT / "annotations" / "instances_train2017.json", content)


def voc(content: bytes) -> None:
    """An XML file of one image."""
    read_boxes("voc", "2007_trainval", ROOT / "VOC2007/Annotations/2007_000000.xml", content)


def tfrecord(content: bytes) -> None:
    """A TFRecord file."""
    file = ROOT / "a.tfrecord"
    file.write_bytes(content)
    try:
        records = RecordFiles([str(file)])
    except ValueError:
        return
    for index in range(len(records)):
        assert records.read(index) in content


def manifest(content: bytes) -> None:
    """`SHA256SUMS`."""
    file = ROOT / "SHA256SUMS"
    file.write_bytes(content)
    try:
        check_files(file)
    except ManifestError:
        return


def rle(content: bytes) -> None:
    """Runs of a mask in COCO's text form."""
    form = {"size": [60, 40], "counts": content}
    try:
        instance_masks.clean(form, 60, 40)
    except ValueError:
        return
    assert instance_masks.decode(form, 60, 40).max() <= 1


def main() -> None:
    """Everything after `--reader=` is libFuzzer's."""
    readers = {"coco": coco, "voc": voc, "tfrecord": tfrecord, "manifest": manifest, "masks": rle}
    name = sys.argv[1].removeprefix("--reader=") if len(sys.argv) > 1 else ""
    if name not in readers:
        sys.exit(f"--reader must be one of {', '.join(readers)}")
    polygon = {"bbox": [1, 2, 10, 20], "segmentation": [[1, 2, 11, 2, 11, 22]]}
    write_coco(ROOT, [{"image_id": 7, "category_id": 3} | polygon])
    write_voc(ROOT, [[("cat", 0, 1, 1, 60, 40)]])
    seeds = ROOT / "seeds"
    seeds.mkdir()
    for file in (*ROOT.rglob("*.json"), *ROOT.rglob("*.xml")):
        (seeds / file.name).write_bytes(file.read_bytes())
    (seeds / "runs").write_bytes(instance_masks.to_rle(np.eye(60, 40))["counts"].encode())
    atheris.Setup([sys.argv[0], *sys.argv[2:], str(seeds)], readers[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
