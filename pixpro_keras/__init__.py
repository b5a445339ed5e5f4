"""Pixel-level self-supervised pre-training in Keras 3 / TensorFlow."""

import importlib
from typing import TYPE_CHECKING, Any

# Before TensorFlow is imported.
from pixpro_keras.utils import tensorflow_settings as _tensorflow_settings  # noqa: F401
from pixpro_keras.version import __version__

if TYPE_CHECKING:
    from pixpro_keras import (
        backbones,
        data,
        detection,
        evaluation,
        geometry,
        layers,
        losses,
        methods,
        ops,
        optimizers,
        segmentation,
        task,
        training,
        types,
        utils,
        visualize,
        weights,
    )
    from pixpro_keras.cli.pretrain import PretrainResult, pretrain
    from pixpro_keras.evaluation.embedding import Embeddings, embed
    from pixpro_keras.layers.pixel_propagation import PixelPropagation
    from pixpro_keras.methods import (
        BYOL,
        DenseCL,
        InfoMin,
        MoCo,
        PixContrast,
        PixPro,
        SimCLR,
        SlotCon,
        Supervised,
    )
    from pixpro_keras.optimizers import LARS
    from pixpro_keras.weights import (
        ResNet18V1_5,
        ResNet34V1_5,
        ResNet50V1_5,
        ResNet101V1_5,
        ResNet152V1_5,
        export_backbone,
        load_backbone,
        write_card,
    )

__all__ = [
    "BYOL",
    "LARS",
    "DenseCL",
    "Embeddings",
    "InfoMin",
    "MoCo",
    "PixContrast",
    "PixPro",
    "PixelPropagation",
    "PretrainResult",
    "ResNet18V1_5",
    "ResNet34V1_5",
    "ResNet50V1_5",
    "ResNet101V1_5",
    "ResNet152V1_5",
    "SimCLR",
    "SlotCon",
    "Supervised",
    "__version__",
    "backbones",
    "data",
    "detection",
    "embed",
    "evaluation",
    "export_backbone",
    "geometry",
    "layers",
    "load_backbone",
    "losses",
    "methods",
    "ops",
    "optimizers",
    "pretrain",
    "segmentation",
    "task",
    "training",
    "types",
    "utils",
    "visualize",
    "weights",
    "write_card",
]

# Module -> its names in `__all__`. Other names in `__all__` are modules of this package.
_NAMES = {
    "cli.pretrain": ("PretrainResult", "pretrain"),
    "evaluation.embedding": ("Embeddings", "embed"),
    "layers.pixel_propagation": ("PixelPropagation",),
    "methods": (
        "BYOL",
        "DenseCL",
        "InfoMin",
        "MoCo",
        "PixContrast",
        "PixPro",
        "SimCLR",
        "SlotCon",
        "Supervised",
    ),
    "optimizers": ("LARS",),
    "weights": (
        "ResNet18V1_5",
        "ResNet34V1_5",
        "ResNet50V1_5",
        "ResNet101V1_5",
        "ResNet152V1_5",
        "export_backbone",
        "load_backbone",
        "write_card",
    ),
}


if not TYPE_CHECKING:  # Type checkers would accept any name.

    def __getattr__(name: str) -> Any:
        # Not at import: the package's parts that need no TensorFlow, workers that draw scenes among
        # them, would wait for it.
        for module, names in _NAMES.items():
            if name in names:
                return getattr(importlib.import_module(f"{__name__}.{module}"), name)
        if name in __all__:
            return importlib.import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
