"""Weights of our detectors with torchvision's names and layouts."""

from typing import Any

import numpy as np

from pixpro_keras.detection.detector import Detector
from pixpro_keras.weights.name_maps import to_torch_layout
from pixpro_keras.weights.torch import torchvision_state_dict

_NORM_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_STAGES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6"}


def torchvision_arrays(task: Detector) -> dict[str, np.ndarray]:
    """Converts the weights of a detector for `tasks_torch.mask_rcnn_fpn` or `faster_rcnn_c4`.

    Args:
        task: Mask R-CNN on FPN, or Faster R-CNN on C4.

    Returns:
        Arrays by their names in torchvision's model.
    """
    owner: Any = task
    arrays: dict[str, np.ndarray] = {}

    def add(prefix: str, layer: Any, kernel: np.ndarray | None = None) -> None:
        if hasattr(layer, "moving_mean"):
            for ours, theirs in _NORM_NAMES.items():
                arrays[f"{prefix}.{theirs}"] = np.array(getattr(layer, ours))
            return
        arrays[f"{prefix}.weight"] = to_torch_layout(layer.kernel) if kernel is None else kernel
        if layer.use_bias:
            arrays[f"{prefix}.bias"] = np.array(layer.bias)

    is_fpn = hasattr(task, "fpn")
    for name, array in torchvision_state_dict(task.backbone).items():
        first, rest = name.split(".", 1)
        if is_fpn:
            arrays[f"backbone.body.{name}"] = array
        elif first in _STAGES:
            arrays[f"backbone.{_STAGES[first]}.{rest}"] = array
        elif first == "layer4":
            arrays[f"roi_heads.box_head.0.{rest}"] = array
    if is_fpn:
        _add_fpn(owner, add, arrays)
    else:
        add("roi_heads.box_head.1", owner.extra_norm)
    _add_heads(owner, add, arrays)
    return arrays


def _add_fpn(owner: Any, add: Any, arrays: dict[str, np.ndarray]) -> None:
    parts = ("inner_blocks", owner.fpn.laterals), ("layer_blocks", owner.fpn.outputs)
    for block, layers in parts:
        for level in range(2, 6):
            for number, layer in enumerate(layers[f"p{level}"]):
                add(f"backbone.fpn.{block}.{level - 2}.{number}", layer)
    for number in range(4):
        for head, find in (
            ("box_head", owner.box_head.get_layer),
            ("mask_head", lambda name: _named(owner.mask_head, name)),
        ):
            add(f"roi_heads.{head}.{number}.0", find(f"conv{number + 1}"))
            add(f"roi_heads.{head}.{number}.1", find(f"bn{number + 1}"))
    hidden = owner.box_head.get_layer("hidden")
    maps = np.array(hidden.kernel).reshape(7, 7, -1, 1024)
    add("roi_heads.box_head.5", hidden, maps.transpose(3, 2, 0, 1).reshape(1024, -1))
    add("roi_heads.mask_predictor.conv5_mask", owner.mask_head.enlarge)
    kernel = np.array(owner.mask_head.enlarge.kernel).transpose(3, 2, 0, 1)
    arrays["roi_heads.mask_predictor.conv5_mask.weight"] = kernel
    add("roi_heads.mask_predictor.mask_fcn_logits", owner.mask_head.masks)


def _add_heads(owner: Any, add: Any, arrays: dict[str, np.ndarray]) -> None:
    add("rpn.head.conv.0.0", owner.rpn.hidden)
    add("rpn.head.cls_logits", owner.rpn.objectness)
    add("rpn.head.bbox_pred", owner.rpn.shift)
    # Anchors of a cell are ordered by ratio, then size, in torchvision, and by size, then ratio, here.
    num_sizes = len(owner.anchor_sizes[0])
    for name in ("cls_logits", "bbox_pred"):
        for kind in ("weight", "bias"):
            array = arrays[f"rpn.head.{name}.{kind}"]
            grouped = array.reshape(num_sizes, 3, -1, *array.shape[1:])
            arrays[f"rpn.head.{name}.{kind}"] = grouped.swapaxes(0, 1).reshape(array.shape)
    add("roi_heads.box_predictor.cls_score", owner.predictor.classes)
    add("roi_heads.box_predictor.bbox_pred", owner.predictor.boxes)
    # Background is the last class here and the first in torchvision.
    for kind in ("weight", "bias"):
        name = f"roi_heads.box_predictor.cls_score.{kind}"
        arrays[name] = np.roll(arrays[name], 1, axis=0)
        for name in ("box_predictor.bbox_pred", "mask_predictor.mask_fcn_logits"):
            if (full := f"roi_heads.{name}.{kind}") in arrays:
                count = 4 if name.startswith("box") else 1
                background = np.zeros_like(arrays[full][:count])
                arrays[full] = np.concatenate([background, arrays[full]])


def _named(mask_head: Any, name: str) -> Any:
    layers = [*mask_head.convolutions, *mask_head.norms]
    return next(layer for layer in layers if layer.name == name)
