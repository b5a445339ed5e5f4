"""The embedded data set: scenes drawn by the package."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixpro_keras.data.scenes.composition import CLASS_NAMES, draw_scene
    from pixpro_keras.data.scenes.scenes_dataset import Scenes, builder

__all__ = ["CLASS_NAMES", "Scenes", "builder", "draw_scene"]

_MODULES = {"composition": ("CLASS_NAMES", "draw_scene"), "scenes_dataset": ("Scenes", "builder")}


def __getattr__(name: str) -> Any:
    # Not on import: processes that draw scenes do not need TensorFlow.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
