"""The networks of torchvision and of the official PixPro, in torch, for parity tests.

Written from their published names and shapes; torch is imported when they are built.
"""

import pytest


def import_torch():
    """Imports torch. Skips the test if it is missing."""
    return pytest.importorskip("torch", reason="needs PyTorch: pip install 'pixpro-keras[torch]'")


def resnet(
    blocks=(1, 1, 1, 1),
    bottleneck=False,
    stride_in_1x1=False,
    bias=False,
    groups=1,
    group_width=64,
    is_deep=False,
):
    """Makes a ResNet up to C5 with torchvision's names, or ResNet-D with names of the authors' release.

    Without arguments it is `tiny_networks.RESNET10`.
    """
    torch = import_torch()
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, in_channels, width, stride):
            super().__init__()
            out = 4 * width if bottleneck else width
            if bottleneck:
                first, second = (stride, 1) if stride_in_1x1 else (1, stride)
                inner = int(width * (group_width / 64)) * groups
                plan = [
                    (in_channels, inner, 1, first, 1),
                    (inner, inner, 3, second, groups),
                    (inner, out, 1, 1, 1),
                ]
            else:
                plan = [(in_channels, width, 3, stride, 1), (width, width, 3, 1, 1)]
            self.count = len(plan)
            for index, (source, target, size, step, parts) in enumerate(plan, start=1):
                conv = nn.Conv2d(source, target, size, step, size // 2, groups=parts, bias=bias)
                self.add_module(f"conv{index}", conv)
                self.add_module(f"bn{index}", nn.BatchNorm2d(target))
            self.downsample = None
            if stride != 1 or in_channels != out:
                pool = [nn.AvgPool2d(stride, stride)] if is_deep else []
                conv = nn.Conv2d(in_channels, out, 1, 1 if is_deep else stride, bias=bias)
                self.downsample = nn.Sequential(*pool, conv, nn.BatchNorm2d(out))

        def forward(self, x):
            shortcut = x if self.downsample is None else self.downsample(x)
            for index in range(1, self.count + 1):
                x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x))
                if index < self.count:
                    x = torch.relu(x)
            return torch.relu(x + shortcut)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=bias)
            if is_deep:
                parts = [
                    nn.Sequential(
                        nn.Conv2d(source, 32, 3, stride, 1, bias=bias),
                        nn.BatchNorm2d(32),
                        nn.ReLU(),
                    )
                    for source, stride in ((3, 2), (32, 1))
                ]
                self.conv1 = nn.Sequential(*parts, nn.Conv2d(32, 64, 3, 1, 1, bias=bias))
            self.bn1 = nn.BatchNorm2d(64)
            channels = 64
            for stage, count in enumerate(blocks):
                layers = []
                for block in range(count):
                    stride = 2 if block == 0 and stage > 0 else 1
                    layers.append(Block(channels, 64 * 2**stage, stride))
                    channels = 64 * 2**stage * (4 if bottleneck else 1)
                self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            self.out_channels = channels

        def forward(self, x):
            x = torch.relu(self.bn1(self.conv1(x)))
            x = nn.functional.max_pool2d(x, 3, 2, 1)
            for stage in range(1, 5):
                x = getattr(self, f"layer{stage}")(x)
            return x

    return ResNet()


def mlp(in_dim, inner_dim, out_dim):
    """The official projector, predictor and two-layer transform."""
    import collections

    nn = import_torch().nn
    return nn.Sequential(
        collections.OrderedDict(
            linear1=nn.Conv2d(in_dim, inner_dim, 1),
            bn1=nn.BatchNorm2d(inner_dim),
            relu1=nn.ReLU(),
            linear2=nn.Conv2d(inner_dim, out_dim, 1),
        )
    )


def official_pixpro(inner_dim=32, dim=16, transform_layers=1, instance=False, **resnet_arguments):
    """The official pre-training modules, in their order of registration, with random weights."""
    torch = import_torch()
    model = torch.nn.Module()
    model.encoder = resnet(**resnet_arguments)
    channels = model.encoder.out_channels
    model.projector = mlp(channels, inner_dim, dim)
    model.encoder_k = resnet(**resnet_arguments)
    model.projector_k = mlp(channels, inner_dim, dim)
    if transform_layers == 1:
        model.value_transform = torch.nn.Conv2d(dim, dim, 1)
    elif transform_layers == 2:
        model.value_transform = mlp(dim, dim, dim)
    if instance:
        model.projector_instance = mlp(channels, inner_dim, dim)
        model.projector_instance_k = mlp(channels, inner_dim, dim)
        model.predictor = mlp(dim, inner_dim, dim)
    randomize(model)
    for name, parameter in model.named_parameters():
        if name.split(".")[0].endswith("_k"):
            parameter.requires_grad = False
    return model


def randomize(model, seed=0):
    """Sets random weights and batch-norm statistics that keep the scale of the features."""
    torch = import_torch()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.ndim == 1:
            offset = 1 if name.endswith("weight") else 0  # batch norm's scale
            tensor.normal_(offset, 0.1, generator=generator)
    return model


def features(model, images):
    """Computes C5 `(B, h, w, C)` of `(B, H, W, 3)` images in inference mode."""
    torch = import_torch()
    model.eval()
    with torch.no_grad():
        maps = model(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return maps.numpy().transpose(0, 2, 3, 1)
