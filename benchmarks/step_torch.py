"""Worker of `step_ratio.py`: the PixPro step in PyTorch.

`--variant=published`: the step as in the authors' code, in float32, channels first, with separate updates of
each parameter. `--variant=best`: the same step with channels last, multi-tensor updates and, with
`--precision=bfloat16`, autocast.
"""

import argparse
import contextlib
import math
from typing import Any

import numpy as np
import torch
import worker
from torch import nn
from torch.nn import functional

_BLOCKS = {"resnet18_v1_5": (2, 2, 2, 2), "resnet50_v1_5": (3, 4, 6, 3)}
_MOMENTUM, _DECAY, _TRUST = 0.9, 1e-5, 0.001


class Block(nn.Module):
    """A residual block with torchvision's parameter names."""

    def __init__(self, channels: int, width: int, stride: int, is_bottleneck: bool):
        super().__init__()
        self.out_channels = width * (4 if is_bottleneck else 1)
        if is_bottleneck:
            plan = [(channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
        else:
            plan = [(channels, width, 3, stride), (width, width, 3, 1)]
        self.count = len(plan)
        for number, (source, target, size, step) in enumerate(plan, start=1):
            conv = nn.Conv2d(source, target, size, step, size // 2, bias=False)
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(target))
        self.downsample = None
        if channels != self.out_channels:
            conv = nn.Conv2d(channels, self.out_channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(self.out_channels))

    def forward(self, x):
        """Maps `(B, C, H, W)` to `(B, C', H', W')`."""
        shortcut = x if self.downsample is None else self.downsample(x)
        for number in range(1, self.count + 1):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
            if number < self.count:
                x = functional.relu(x, inplace=True)
        return functional.relu(x + shortcut, inplace=True)


class ResNet(nn.Module):
    """A ResNet up to C5, with the stride in the 3x3 convolution."""

    def __init__(self, name: str):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for stage, count in enumerate(_BLOCKS[name]):
            blocks = []
            for number in range(count):
                stride = 2 if number == 0 and stage > 0 else 1
                blocks.append(Block(channels, 64 * 2**stage, stride, name != "resnet18_v1_5"))
                channels = blocks[-1].out_channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.out_channels = channels

    def forward(self, x):
        """`(B, 3, H, W)` images to C5."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        x = functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


def projector(channels: int, hidden: int, out: int) -> nn.Sequential:
    """Two 1x1 convolutions with the parameter names of the authors' release."""
    parts = nn.Sequential()
    parts.add_module("linear1", nn.Conv2d(channels, hidden, 1))
    parts.add_module("bn1", nn.BatchNorm2d(hidden))
    parts.add_module("relu1", nn.ReLU(inplace=True))
    parts.add_module("linear2", nn.Conv2d(hidden, out, 1))
    return parts


class PixPro(nn.Module):
    """Online and target network, and the loss."""

    def __init__(self, name: str, hidden: int, out: int = 256):
        super().__init__()
        self.encoder, self.encoder_k = ResNet(name), ResNet(name)
        channels = self.encoder.out_channels
        self.projector = projector(channels, hidden, out)
        self.projector_k = projector(channels, hidden, out)
        self.value_transform = nn.Conv2d(out, out, 1)
        for parameter in (*self.encoder_k.parameters(), *self.projector_k.parameters()):
            parameter.requires_grad = False

    def pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Pairs of target and online parameters."""
        online = (*self.encoder.parameters(), *self.projector.parameters())
        moving = (*self.encoder_k.parameters(), *self.projector_k.parameters())
        return list(zip(moving, online, strict=True))

    def propagate(self, x):
        """Pixel propagation module: `(B, C, h, w)` to `(B, C, h * w)`."""
        unit = functional.normalize(x.flatten(2), dim=1)
        similarity = torch.bmm(unit.transpose(1, 2), unit).clamp(min=0) ** 2
        values = functional.normalize(self.value_transform(x).flatten(2), dim=1)
        return torch.bmm(values, similarity)  # similarity is symmetric

    def forward(self, views, coordinates):
        """Loss of two views, both directions."""
        predictions = [self.propagate(self.projector(self.encoder(view))) for view in views]
        with torch.no_grad():
            targets = [self.projector_k(self.encoder_k(view)) for view in views]
        size = targets[0].shape[2:]
        forth = consistency(predictions[0], targets[1], *coordinates, size)
        return forth + consistency(predictions[1], targets[0], *coordinates[::-1], size)


def consistency(prediction, target, coordinates, target_coordinates, size):
    """-2 times the mean cosine of positive pairs, one direction."""
    centers, diagonals = zip(
        *(cells(x, size) for x in (coordinates, target_coordinates)), strict=True
    )
    distance = torch.cdist(centers[0], centers[1])
    positive = (distance / torch.maximum(*diagonals)[:, None, None] < 0.7).float()
    first = functional.normalize(prediction.float(), dim=1)
    second = functional.normalize(target.flatten(2).float(), dim=1)
    cosine = torch.bmm(first.transpose(1, 2), second)
    return -2 * ((cosine * positive).sum((1, 2)) / positive.sum((1, 2)).clamp(min=1)).mean()


def cells(coordinates, size):
    """Centers `(B, N, 2)` and diagonals `(B,)` of the cells of a map, in coordinates of the source image."""
    start, extent = coordinates[:, :2], coordinates[:, 2:] - coordinates[:, :2]
    height, width = size
    device = coordinates.device
    x = (torch.arange(width, device=device) + 0.5) / width
    y = (torch.arange(height, device=device) + 0.5) / height
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
    cell = extent / torch.tensor([width, height], device=device)
    return start[:, None] + extent[:, None] * grid, cell.norm(dim=1)


class Published:
    """Moving average and LARS with SGD, parameter by parameter."""

    def __init__(self, model: PixPro):
        self.pairs = model.pairs()
        # Any: in torch's types a gradient may be None.
        self.parameters: Any = [p for p in model.parameters() if p.requires_grad]
        self.momenta: Any = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def average(self, momentum: float) -> None:
        """Updates the target network."""
        for moving, online in self.pairs:
            moving.copy_(moving * momentum + online * (1 - momentum))

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """One step of LARS."""
        for parameter, momentum in zip(self.parameters, self.momenta, strict=True):
            gradient = parameter.grad
            if parameter.ndim > 1:
                gradient = gradient + _DECAY * parameter
                norm, size = parameter.norm(), gradient.norm()
                if norm > 0 and size > 0:
                    gradient = gradient * (_TRUST * norm / (size + 1e-8))
            momentum.mul_(_MOMENTUM).add_(gradient)
            parameter.sub_(rate * momentum)


class MultiTensor(Published):
    """The same updates with multi-tensor operations."""

    @torch.no_grad()
    def average(self, momentum: float) -> None:
        """Updates the target network."""
        moving, online = zip(*self.pairs, strict=True)
        torch._foreach_lerp_(moving, online, 1 - momentum)

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """One step of LARS."""
        adapted: Any = [p for p in self.parameters if p.ndim > 1]
        gradients: Any = [p.grad for p in adapted]
        torch._foreach_add_(gradients, adapted, alpha=_DECAY)
        ratios: Any = torch._foreach_norm(adapted)
        torch._foreach_mul_(ratios, _TRUST)
        sizes: Any = torch._foreach_norm(gradients)
        torch._foreach_add_(sizes, 1e-8)
        torch._foreach_div_(ratios, sizes)
        # No ratio is 0 / 0: only scales start at 0, and they have one axis.
        torch._foreach_mul_(gradients, ratios)
        torch._foreach_mul_(self.momenta, _MOMENTUM)
        torch._foreach_add_(self.momenta, [p.grad for p in self.parameters])
        torch._foreach_add_(self.parameters, self.momenta, alpha=-rate)


def main() -> None:
    """Serves training steps to the coordinator."""
    parser = argparse.ArgumentParser()
    worker.add_arguments(parser)
    parser.add_argument("--variant", choices=["published", "best"], required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    is_best = options.variant == "best"
    layout = torch.channels_last if is_best else torch.contiguous_format
    device = worker.torch_device()
    model = PixPro(options.backbone, options.hidden_dim)
    with np.load(options.weights) as arrays:
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    model.train()
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=layout)
    model.to(device)
    images, corners = worker.make_batch(options.batch_size, options.image_size)
    views = [
        torch.from_numpy(view.transpose(0, 3, 1, 2).copy()).to(device, memory_format=layout)
        for view in images
    ]
    coordinates = [torch.from_numpy(one).to(device) for one in corners]
    updates = (MultiTensor if is_best else Published)(model)
    uses_bf16 = options.precision == "bfloat16"

    def step(number: int) -> float:
        progress = math.cos(math.pi * number / worker.TOTAL_STEPS)
        updates.average(1 - (1 - 0.99) * (progress + 1) / 2)
        autocast = torch.autocast(device, torch.bfloat16) if uses_bf16 else contextlib.nullcontext()
        for parameter in updates.parameters:
            parameter.grad = None
        with autocast:
            loss = model(views, coordinates)
        loss.backward()
        updates.update(worker.LEARNING_RATE)
        return loss.item()

    worker.serve(step, torch_gflops)


def torch_gflops() -> float:
    """Measures a forward convolution of PyTorch in GFLOP/s."""
    device = worker.torch_device()
    images = torch.randn(*worker.CONV_SHAPE, device=device).permute(0, 3, 1, 2)
    kernel = torch.randn(worker.CONV_CHANNELS, worker.CONV_CHANNELS, 3, 3, device=device)
    kernel = kernel.to(memory_format=torch.channels_last)
    with torch.no_grad():
        return worker.gflops(lambda: functional.conv2d(images, kernel, padding=1).cpu())


if __name__ == "__main__":
    main()
