"""Detectors of detectron2, imported from its source, with the layers of the authors' release.

The compiled part of detectron2 is not needed. Without torchvision, RoIAlign and suppression are loops over
boxes.
"""

import importlib.util
import math
import pathlib
import sys
import types
from typing import Any

import pixpro_keras  # noqa: F401  # isort: skip
import keras
import numpy as np
import torch
from absl import app
from PIL import Image

from pixpro_keras.weights import name_maps


def roi_align(features, boxes, output_size, scale, sampling_ratio, aligned):
    """RoIAlign of `(R, 5)` rows `image, x1, y1, x2, y2`, as a loop over boxes."""
    bins = output_size[0] if isinstance(output_size, tuple) else output_size
    height, width = features.shape[-2:]

    def samples(start, end, size):
        length = (end - start) / bins
        number = sampling_ratio if sampling_ratio > 0 else math.ceil(length)
        steps = (torch.arange(number) + 0.5) / max(number, 1)
        at = (start + (torch.arange(bins)[:, None] + steps) * length).ravel()
        is_near = ((at >= -1) & (at <= size)).to(features.dtype)
        at = at.clamp(0, size - 1)
        low = at.floor().long()
        return low, (low + 1).clamp(max=size - 1), at - low, is_near, number

    rows = []
    for row in boxes:
        x1, y1, x2, y2 = row[1:] * scale - (0.5 if aligned else 0.0)
        y, y_next, y_share, y_near, down = samples(y1, y2, height)
        x, x_next, x_share, x_near, right = samples(x1, x2, width)
        image = features[int(row[0])]
        upper, lower = image[:, y] * y_near[:, None], image[:, y_next] * y_near[:, None]
        lines = upper + (lower - upper) * y_share[:, None]
        values = lines[..., x] + (lines[..., x_next] - lines[..., x]) * x_share
        values = (values * x_near).reshape(-1, bins, down, bins, right)
        rows.append(values.sum(dim=(2, 4)) / max(down * right, 1))
    return torch.stack(rows) if rows else features.new_zeros(0, features.shape[1], bins, bins)


def nms(boxes, scores, iou_threshold):
    """Indices of the boxes kept by greedy non-maximum suppression, in order of decreasing score."""
    order = scores.argsort(descending=True)
    boxes = boxes[order]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    is_left = torch.ones(len(boxes), dtype=torch.bool)
    for index in range(len(boxes)):
        if not is_left[index]:
            continue
        sides = torch.minimum(boxes[index, 2:], boxes[index + 1 :, 2:])
        sides = (sides - torch.maximum(boxes[index, :2], boxes[index + 1 :, :2])).clamp(min=0)
        common = sides.prod(dim=1)
        iou = common / (areas[index] + areas[index + 1 :] - common)
        is_left[index + 1 :] &= iou <= iou_threshold
    return order[is_left]


def batched_nms(boxes, scores, groups, iou_threshold):
    """Non-maximum suppression within each group."""
    members = [torch.where(groups == group)[0] for group in groups.unique()]
    kept = [rows[nms(boxes[rows], scores[rows], iou_threshold)] for rows in members]
    indices = torch.cat([groups.new_zeros(0), *kept])
    return indices[scores[indices].argsort(descending=True)]


def prepare(path: pathlib.Path) -> None:
    """Makes detectron2's source importable, without its compiled part and without torchvision."""
    if not (path / "detectron2").is_dir():
        raise app.UsageError(f"--detectron2={path}: there is no folder `detectron2` in it")
    sys.path.insert(0, str(path))
    sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")
    if importlib.util.find_spec("torchvision") is None:
        torchvision, ops, boxes = (
            types.ModuleType(name)
            for name in ("torchvision", "torchvision.ops", "torchvision.ops.boxes")
        )
        members: dict[types.ModuleType, dict[str, Any]] = {
            torchvision: {"ops": ops, "__version__": "0.15.0"},
            ops: {
                "boxes": boxes,
                "roi_align": roi_align,
                "nms": nms,
                "RoIPool": torch.nn.Module,  # Imported, but never used.
            },
            boxes: {"nms": nms, "batched_nms": batched_nms},
        }
        for module, content in members.items():
            for name, value in content.items():
                setattr(module, name, value)
            sys.modules[module.__name__] = module
    # Names that newer versions of Pillow and NumPy have removed.
    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.Resampling.BILINEAR  # type: ignore[attr-defined]
    for name, kind in (("bool", bool), ("float", float), ("int", int), ("object", object)):
        if name not in vars(np):
            setattr(np, name, kind)


def build(source: pathlib.Path, num_classes: int, num_rois: int, is_fpn: bool, with_masks: bool):
    """Builds detectron2's model with the layers of the authors' release."""
    from detectron2.config import get_cfg
    from detectron2.layers import get_norm
    from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
    from detectron2.modeling.roi_heads import Res5ROIHeads

    if "Res5WithNorm" not in ROI_HEADS_REGISTRY:

        @ROI_HEADS_REGISTRY.register()
        class Res5WithNorm(Res5ROIHeads):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                channels = self.box_predictor.cls_score.in_features
                self.res5.add_module("norm", get_norm("BN", channels))

    cfg = get_cfg()
    name = "FPN" if is_fpn else "C4"
    folder = source / "configs" / "COCO-InstanceSegmentation"
    cfg.merge_from_file(str(folder / f"mask_rcnn_R_50_{name}_1x.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.MASK_ON = with_masks
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0] * 3, [1.0] * 3
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = num_rois
    if is_fpn:
        cfg.MODEL.FPN.NORM = "BN"
        cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 4, 1
        cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
    else:
        cfg.MODEL.ROI_HEADS.NAME = "Res5WithNorm"
    return META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)


def their_names(task, is_fpn: bool, with_masks: bool) -> dict:
    """Our variables by their names in detectron2's model."""
    bottom = "backbone.bottom_up" if is_fpn else "backbone"

    def backbone_name(name: str) -> str:
        name = name_maps.detectron2_layer_name(name)
        in_head = not is_fpn and name.startswith("res5.")
        return f"roi_heads.{name}" if in_head else f"{bottom}.{name}"

    variables = name_maps.named_variables(task.backbone.layers, backbone_name)
    heads = [
        (task.rpn.hidden, "proposal_generator.rpn_head.conv"),
        (task.rpn.objectness, "proposal_generator.rpn_head.objectness_logits"),
        (task.rpn.shift, "proposal_generator.rpn_head.anchor_deltas"),
        (task.predictor.classes, "roi_heads.box_predictor.cls_score"),
        (task.predictor.boxes, "roi_heads.box_predictor.bbox_pred"),
    ]
    if is_fpn:
        for level in range(2, 6):
            for kind, parts in (("lateral", task.fpn.laterals), ("output", task.fpn.outputs)):
                convolution, norm = parts[f"p{level}"]
                heads.append((convolution, f"backbone.fpn_{kind}{level}"))
                heads.append((norm, f"backbone.fpn_{kind}{level}.norm"))
        for number in range(1, 5):
            layer = task.box_head.get_layer
            heads.append((layer(f"conv{number}"), f"roi_heads.box_head.conv{number}"))
            heads.append((layer(f"bn{number}"), f"roi_heads.box_head.conv{number}.norm"))
        heads.append((task.box_head.get_layer("hidden"), "roi_heads.box_head.fc1"))
    else:
        heads.append((task.extra_norm, "roi_heads.res5.norm"))
    if with_masks:
        parts = zip(task.mask_head.convolutions, task.mask_head.norms, strict=True)
        for number, (convolution, norm) in enumerate(parts, start=1):
            heads.append((convolution, f"roi_heads.mask_head.mask_fcn{number}"))
            heads.append((norm, f"roi_heads.mask_head.mask_fcn{number}.norm"))
        heads.append((task.mask_head.enlarge, "roi_heads.mask_head.deconv"))
        heads.append((task.mask_head.masks, "roi_heads.mask_head.predictor"))
    for layer, name in heads:
        is_norm = hasattr(layer, "moving_mean")
        names = ("weight", "bias", "running_mean", "running_var") if is_norm else ("weight", "bias")
        for weight_name, variable in zip(names, layer.weights, strict=False):
            variables[f"{name}.{weight_name}"] = variable
    return variables


def to_torch(name: str, value) -> torch.Tensor:
    """Converts a weight or its gradient to detectron2's layout."""
    array = keras.ops.convert_to_numpy(value)
    if name == "roi_heads.box_head.fc1.weight":  # Channels are last here and first in detectron2.
        array = array.reshape(7, 7, 256, -1).transpose(2, 0, 1, 3).reshape(array.shape)
    return torch.from_numpy(name_maps.to_torch_layout(array).copy())


def copy_weights(variables: dict, model) -> None:
    """Copies our weights to detectron2's model."""
    state = {name: to_torch(name, variable) for name, variable in variables.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    ignored = ("num_batches_tracked", "pixel_mean", "pixel_std", "cell_anchors")
    missing = [name for name in missing if not any(word in name for word in ignored)]
    assert not missing and not unexpected, (missing, unexpected)
