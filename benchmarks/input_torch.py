"""Worker of `input_ratio.py`: two views per image by torchvision, on one thread.

`--variant=pillow`: transforms on Pillow images, as in the authors' code. `--variant=tensor`: the same on
uint8 tensors, as torchvision recommends, with torchvision's Gaussian blur.

The published wheel of torchvision is built for CUDA. With a CPU-only PyTorch, install the matching version by
`pip install --no-deps torchvision==X`; its transforms do not need compiled operators.
"""

import argparse
import functools
import importlib.util
import pathlib
import random
from collections.abc import Callable, Iterator

import torch
import worker
from PIL import Image, ImageFilter

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Probability of blur and of solarization, for view 1 and view 2.
_SHARES = ((1.0, 0.0), (0.1, 0.2))
_SIGMA = (0.1, 2.0)
_BLUR_KERNEL = 13  # Three times the largest sigma on each side.
_KEPT: list[torch.library.Library] = []


@functools.cache
def import_transforms():
    """Imports `torchvision.transforms.v2`, also if torchvision's compiled operators cannot be loaded."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise SystemExit("torchvision is missing: pip install --no-deps torchvision")
    try:
        torch.ops.load_library(pathlib.Path(spec.origin).parent / "_C.so")
    except OSError:
        # The import of torchvision only checks that these operators exist.
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)  # Its definitions are removed when it is deleted.
    from torchvision.transforms import v2

    return v2


def blur_as_the_release(image: Image.Image) -> Image.Image:
    """Applies Pillow's Gaussian blur with a random sigma."""
    return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*_SIGMA)))


def make_transform(variant: str, image_size: int, blur: float, solarize: float) -> Callable:
    """Makes the `BYOL` augmentation of one view. Its result is a normalized `(3, S, S)` tensor."""
    v2 = import_transforms()
    is_tensor = variant == "tensor"
    one_blur = (
        v2.GaussianBlur(_BLUR_KERNEL, _SIGMA) if is_tensor else v2.Lambda(blur_as_the_release)
    )
    steps = [
        v2.RandomResizedCrop(image_size, (0.08, 1.0), (3 / 4, 4 / 3)),  # bilinear
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([one_blur], p=blur),
        v2.RandomSolarize(128, p=solarize),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
    return v2.Compose(steps)


def batches(folder: str, transforms: list[Callable], variant: str, batch_size: int) -> Iterator:
    """Yields batches of both views without end, shuffled in each epoch."""
    v2 = import_transforms()
    paths = sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix == ".jpg")
    views: list[tuple] = []
    while True:
        random.shuffle(paths)
        for path in paths:
            with open(path, "rb") as file:
                image = Image.open(file).convert("RGB")
            if variant == "tensor":
                image = v2.functional.pil_to_tensor(image)
            views.append(tuple(transform(image) for transform in transforms))
            if len(views) == batch_size:
                yield [torch.stack(one) for one in zip(*views, strict=True)]
                views = []


def main() -> None:
    """Serves batches to the coordinator."""
    parser = argparse.ArgumentParser()
    worker.add_input_arguments(parser)
    parser.add_argument("--variant", choices=["pillow", "tensor"], required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    transforms = [make_transform(args.variant, args.image_size, *shares) for shares in _SHARES]
    data = batches(args.folder, transforms, args.variant, args.batch_size)
    worker.serve(lambda _: sum(float(view.mean()) for view in next(data)) / 2)


if __name__ == "__main__":
    main()
