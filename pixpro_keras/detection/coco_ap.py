"""Average precision (AP) of COCO, by pycocotools."""

import contextlib
import io
from collections.abc import Sequence

from pixpro_keras.detection import instance_masks
from pixpro_keras.detection.box_source import BoxSource
from pixpro_keras.detection.inference import Detections, to_coco_results

COCO_SCORES = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")


def coco_scores(detections: Sequence[Detections], source: BoxSource) -> dict[str, float]:
    """AP of boxes and, where both sides have masks, of masks (`mask AP`, ...).

    Ground-truth objects without a mask count for the box AP only. In the mask AP they are ignored,
    together with detections inside their boxes.

    Args:
        detections: detections of each image.
        source: images with their true objects; crowds are ignored as COCO does.

    Returns:
        `AP` (mean over IoU 0.5, 0.55, ... 0.95), `AP50`, `AP75` and AP by size, in [0, 1], by name.
        Sizes without an object are left out.

    Example:
        ```python
        import numpy as np

        from pixpro_keras.detection import BoxSource, Detections, Objects, coco_scores

        boxes, classes = np.array([[10.0, 10.0, 50.0, 40.0]]), np.array([0])
        objects = Objects(boxes, classes, np.array([False]), np.array([1200.0]))
        source = BoxSource(
            name="one image",
            read=lambda index: index,
            describe=str,
            sizes=np.array([[60, 80]]),
            objects=[objects],
            class_names=("cat",),
            image_ids=[1],
            class_ids=[1],
            metric="coco",
        )
        print(coco_scores([Detections(boxes, np.array([0.9]), classes)], source))
        ```
    """
    has_masks = source.has_masks and all(one.segmentations is not None for one in detections)
    kinds = {"": "bbox"} | ({"mask ": "segm"} if has_masks else {})
    scores: dict[str, float] = {}
    for prefix, kind in kinds.items():
        values = coco_statistics(detections, source, kind)[: len(COCO_SCORES)]
        scores |= {f"{prefix}{n}": v for n, v in zip(COCO_SCORES, values, strict=True) if v >= 0}
    return scores


def coco_statistics(detections: Sequence[Detections], source: BoxSource, kind: str) -> list[float]:
    """The twelve numbers of COCO's evaluation: precisions in the order of `COCO_SCORES`, then recalls.

    Args:
        detections: detections of each image.
        source: images with their true objects.
        kind: `bbox` or `segm`.

    Returns:
        Numbers in [0, 1], or -1 where no object counts.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # Numbers instead of ids, so that any data set can be evaluated.
    images = range(source.num_examples)
    classes = range(1, len(source.class_names) + 1)
    rows = to_coco_results(detections, images, classes)
    if kind == "segm":
        # With a box present, pycocotools uses the area of the box instead of the mask's.
        rows = [{name: row[name] for name in row if name != "bbox"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):  # tables and timings
        ground_truth = COCO()
        ground_truth.dataset = _dataset(source, kind == "segm")
        ground_truth.createIndex()
        found = COCO()
        if rows:
            found = ground_truth.loadRes(rows)
        else:  # loadRes cannot read an empty list.
            found.dataset = ground_truth.dataset | {"annotations": []}
            found.createIndex()
        evaluation = COCOeval(ground_truth, found, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def _dataset(source: BoxSource, with_masks: bool) -> dict:
    """Converts the true objects to COCO's format."""
    annotations: list[dict] = []
    for image, objects in enumerate(source.objects):
        height, width = map(int, source.sizes[image])
        for index, (x1, y1, x2, y2) in enumerate(objects.boxes.tolist()):
            row = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": int(objects.classes[index]) + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": float(objects.areas[index]),
                "iscrowd": int(objects.is_ignored[index]),
            }
            if with_masks:
                segmentation = objects.segmentations and objects.segmentations[index]
                if not segmentation:
                    segmentation = [[x1, y1, x2, y1, x2, y2, x1, y2]]
                    row["iscrowd"] = 1
                row["segmentation"] = instance_masks.compress(segmentation, height, width)
            annotations.append(row)
    sizes = source.sizes.tolist()
    return {
        "info": {},
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in enumerate(sizes)],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(source.class_names)],
    }
