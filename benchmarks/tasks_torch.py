"""Worker of `peer_ratios.py`: the side of PyTorch and torchvision of a task.

Networks have the layers of ours; detectors also have our weights. The layout is channels last, with autocast
for `--precision=bfloat16`.
"""

import argparse
import contextlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import task_data as data
import torch
import worker
from PIL import Image
from torch import nn
from torch.nn import functional


def import_torchvision() -> Any:
    """Imports torchvision with its compiled operators, which detectors need."""
    import torchvision
    import torchvision.ops

    return torchvision


def precision_of(options: argparse.Namespace) -> Callable[[], Any]:
    """Returns a function that makes the context of a forward pass."""
    if options.precision == "bfloat16":
        return lambda: torch.autocast(worker.torch_device(), torch.bfloat16)
    return contextlib.nullcontext


def knn(options: argparse.Namespace) -> data.Step:
    """Step that predicts the classes of all queries and returns their mean."""
    del options
    features, labels, queries = (tensor(array) for array in data.features())

    @torch.inference_mode()
    def step(number: int) -> float:
        del number
        cosines = functional.normalize(queries) @ functional.normalize(features).T
        nearest, rows = cosines.topk(data.K)
        votes = torch.zeros(len(queries), data.NUM_CLASSES, device=queries.device)
        votes.scatter_add_(1, labels[rows], ((nearest - nearest[:, :1]) / data.T).exp())
        return float(votes.argmax(dim=1).float().mean())

    return step


def linear_probe(options: argparse.Namespace, heads: int) -> data.Step:
    """Step that trains the probe for an epoch and returns its mean loss per head."""
    del options
    features, labels, _ = (tensor(array) for array in data.features())
    device = features.device
    kernels = 0.01 * torch.randn(heads, features.shape[1], data.NUM_CLASSES, device=device)
    kernels.requires_grad_()
    biases = torch.zeros(heads, 1, data.NUM_CLASSES, device=device, requires_grad=True)
    optimizer = torch.optim.SGD([kernels, biases], data.LEARNING_RATE, momentum=0.9)

    def step(number: int) -> float:
        del number
        order = torch.randperm(len(labels), device=device)
        losses = []
        for begin in range(0, len(labels) - data.PROBE_BATCH + 1, data.PROBE_BATCH):
            rows = order[begin : begin + data.PROBE_BATCH]
            logits = features[rows] @ kernels + biases
            per_head = [functional.cross_entropy(one, labels[rows]) for one in logits]
            loss = torch.stack(per_head).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return float(torch.stack(losses).mean()) / heads

    return step


def trained(model: nn.Module, forward: Callable[[], torch.Tensor]) -> data.Step:
    """Step that trains a model once and returns its loss."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), data.LEARNING_RATE / 100, momentum=0.9)

    def step(number: int) -> float:
        del number
        optimizer.zero_grad()
        loss = forward()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def placed(model: nn.Module) -> nn.Module:
    """Moves a model to the device, with convolution kernels in channels-last layout."""
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return model.to(worker.torch_device())


def tensor(array: np.ndarray) -> torch.Tensor:
    """Copies an array to the device."""
    return torch.from_numpy(array).to(worker.torch_device())


def fcn(options: argparse.Namespace, is_training: bool) -> data.Step:
    """Step that trains an FCN, or predicts the classes of all pixels."""
    models = import_torchvision().models
    backbone = models.resnet50(weights=None, replace_stride_with_dilation=[False, False, True])
    body = nn.Sequential(*list(backbone.children())[:-2])
    head: list[nn.Module] = []
    for channels in (2048, 256):
        convolution = nn.Conv2d(channels, 256, 3, padding=6, dilation=6, bias=False)
        head += [convolution, nn.BatchNorm2d(256), nn.ReLU(inplace=True)]
    model = placed(nn.Sequential(body, *head, nn.Conv2d(256, data.FCN_CLASSES, 1)))
    arrays, classes = data.segmentation(options)
    images = tensor(arrays.transpose(0, 3, 1, 2).copy())
    images = images.to(memory_format=torch.channels_last)
    masks = tensor(classes).long()
    context = precision_of(options)

    def scores() -> torch.Tensor:
        with context():
            logits = model(images)
        size = images.shape[2:]
        return functional.interpolate(logits.float(), size, mode="bilinear", align_corners=False)

    if is_training:
        return trained(model, lambda: functional.cross_entropy(scores(), masks))
    model.eval()

    @torch.inference_mode()
    def step(number: int) -> float:
        del number
        return float(len(scores().argmax(dim=1).cpu()))

    return step


def mask_rcnn_fpn() -> nn.Module:
    """Mask R-CNN with the heads of detectron2's 4conv1fc configuration."""
    torchvision = import_torchvision()
    from torchvision.models.detection import backbone_utils, faster_rcnn, mask_rcnn

    norm = nn.BatchNorm2d
    resnet = torchvision.models.resnet50(weights=None, norm_layer=norm)
    backbone = backbone_utils._resnet_fpn_extractor(resnet, 5, norm_layer=norm)
    head = faster_rcnn.FastRCNNConvFCHead((256, 7, 7), [256] * 4, [1024], norm_layer=norm)
    return mask_rcnn.MaskRCNN(
        backbone,
        num_classes=data.DETECTION_CLASSES + 1,
        box_head=head,
        mask_head=mask_rcnn.MaskRCNNHeads(256, [256] * 4, 1, norm_layer=norm),
        # 0: one sample per cell of a bin, as in detectron2.
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 0),
        mask_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 0),
        rpn_post_nms_top_n_train=1000,
        min_size=1,
        max_size=10_000,
    )


def faster_rcnn_c4() -> nn.Module:
    """Faster R-CNN with the last stage and a batch norm as box head."""
    torchvision = import_torchvision()
    from torchvision.models.detection import faster_rcnn, rpn

    resnet = torchvision.models.resnet50(weights=None)
    stem = nn.Sequential(*list(resnet.children())[:-3])
    backbone: Any = stem
    backbone.out_channels = 1024
    sizes = ((32, 64, 128, 256, 512),)
    box_head = nn.Sequential(
        resnet.layer4, nn.BatchNorm2d(2048), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return faster_rcnn.FasterRCNN(
        backbone,
        rpn_anchor_generator=rpn.AnchorGenerator(sizes, ((0.5, 1.0, 2.0),)),
        box_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 14, 0),
        box_head=box_head,
        box_predictor=faster_rcnn.FastRCNNPredictor(2048, data.DETECTION_CLASSES + 1),
        rpn_pre_nms_top_n_train=12000,
        rpn_pre_nms_top_n_test=6000,
        rpn_post_nms_top_n_train=2000,
        rpn_post_nms_top_n_test=1000,
        min_size=1,
        max_size=10_000,
    )


_DETECTORS = {"mask_rcnn_fpn": mask_rcnn_fpn, "faster_rcnn_c4": faster_rcnn_c4}


def detector(options: argparse.Namespace, name: str, is_training: bool) -> data.Step:
    """Step that trains a detector, or predicts boxes and masks and returns their number."""
    model = _DETECTORS[name]()
    if options.weights:
        with np.load(options.weights) as arrays:
            weights = {key: torch.from_numpy(array) for key, array in arrays.items()}
        missing = model.load_state_dict(weights, strict=False)
        assert not missing.unexpected_keys, missing
        assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys), missing
    model = placed(model)
    arrays, boxes, classes = data.detection(options)
    size = arrays.shape[1:3]
    transform: Any = model.transform
    transform.min_size, transform.max_size = (min(size),), max(size)  # Keeps the size.
    images = [tensor(arrays[0].transpose(2, 0, 1).copy())]
    context = precision_of(options)
    if is_training:
        masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
            mask[top:bottom, left:right] = 1
        targets = [
            {"boxes": tensor(boxes), "labels": tensor(classes + 1)}
            | (
                {"masks": masks.to(images[0].device)}
                if hasattr(model.roi_heads, "mask_head")
                else {}
            )
        ]

        def forward() -> torch.Tensor:
            with context():
                return sum(model(images, targets).values())  # type: ignore[return-value]

        return trained(model, forward)
    model.eval()

    @torch.inference_mode()
    def step(number: int) -> float:
        del number
        with context():
            return float(len(model(images)[0]["boxes"].cpu()))

    return step


def paste(options: argparse.Namespace) -> data.Step:
    """Step that pastes masks into a Full HD image, encodes them as RLE and returns their mean area."""
    del options
    import_torchvision()
    from pycocotools import mask as coco
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    masks, boxes, size = data.predicted_masks()
    tensors = torch.from_numpy(masks)[:, None], torch.from_numpy(boxes)

    @torch.inference_mode()
    def step(number: int) -> float:
        del number
        pasted = (paste_masks_in_image(*tensors, size)[:, 0] >= 0.5).numpy()
        for mask in pasted:
            coco.encode(np.asfortranarray(mask, np.uint8))
        return float(pasted.mean())

    return step


def detection_input(options: argparse.Namespace, with_masks: bool) -> data.Step:
    """Step that makes one training image of a COCO set and returns its mean pixel."""
    import_torchvision()
    from pycocotools import mask as coco
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    folder = pathlib.Path(options.coco)
    file = folder / "annotations" / f"instances_{options.coco_split}.json"
    annotations = json.loads(file.read_text())
    by_image: dict[int, list[dict]] = {}
    for one in annotations["annotations"]:
        by_image.setdefault(one["image_id"], []).append(one)
    transform = v2.Compose(
        [
            v2.RandomShortestSize(list(data.SHORT_SIDES), data.MAX_SIDE),
            v2.RandomHorizontalFlip(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(data.MEAN, data.STD),
        ]
    )
    images = [one for one in annotations["images"] if one["id"] in by_image]
    order = np.random.default_rng(0)

    def masks_of(objects: list[dict], size: tuple[int, int]) -> torch.Tensor:
        masks = []
        for one in objects:
            form = one["segmentation"]
            if isinstance(form, list):
                form = coco.merge(coco.frPyObjects(form, *size))
            elif isinstance(form["counts"], list):
                form = coco.frPyObjects(form, *size)
            masks.append(coco.decode(form))
        return torch.from_numpy(np.stack(masks))

    def step(number: int) -> float:
        del number
        entry = images[order.integers(len(images))]
        with open(folder / options.coco_split / entry["file_name"], "rb") as opened:
            pixels = v2.functional.pil_to_tensor(Image.open(opened).convert("RGB"))
        objects = by_image[entry["id"]]
        size = tuple(pixels.shape[1:])
        boxes = torch.tensor([one["bbox"] for one in objects])
        target = {"boxes": tv_tensors.BoundingBoxes(boxes, format="XYWH", canvas_size=size)}
        if with_masks:
            target["masks"] = tv_tensors.Mask(masks_of(objects, size))
        image, _ = transform(tv_tensors.Image(pixels), target)
        return float(image.mean())

    return step


def main() -> None:
    """Serves the steps of a task to the coordinator."""
    options = data.parse()
    torch.manual_seed(0)
    functions = knn, linear_probe, fcn, detector, paste, detection_input
    worker.serve(data.make_step(options, *functions))


if __name__ == "__main__":
    main()
