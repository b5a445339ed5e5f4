"""Two augmented views of each image, with the coordinates of their crops."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixpro_keras.data.broken_images import BrokenImages, BrokenImagesError
    from pixpro_keras.data.decoding import decode
    from pixpro_keras.data.image_cache import ImageCache, plan_image_cache
    from pixpro_keras.data.labels import check_labels, read_labels, select, stratified_subset
    from pixpro_keras.data.pipeline import (
        DataConfig,
        check_decodable,
        make_dataset,
        make_device_transform,
        make_views,
    )
    from pixpro_keras.data.sampler import Sampler, name_images
    from pixpro_keras.data.sources import Source, open_source

__all__ = [
    "BrokenImages",
    "BrokenImagesError",
    "DataConfig",
    "ImageCache",
    "Sampler",
    "Source",
    "check_decodable",
    "check_labels",
    "decode",
    "make_dataset",
    "make_device_transform",
    "make_views",
    "name_images",
    "open_source",
    "plan_image_cache",
    "read_labels",
    "select",
    "stratified_subset",
]

_MODULES = {
    "broken_images": ("BrokenImages", "BrokenImagesError"),
    "decoding": ("decode",),
    "image_cache": ("ImageCache", "plan_image_cache"),
    "labels": ("check_labels", "read_labels", "select", "stratified_subset"),
    "pipeline": (
        "DataConfig",
        "check_decodable",
        "make_dataset",
        "make_device_transform",
        "make_views",
    ),
    "sampler": ("Sampler", "name_images"),
    "sources": ("Source", "open_source"),
}


def __getattr__(name: str) -> Any:
    # Not on import: processes that draw scenes do not need TensorFlow.
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
