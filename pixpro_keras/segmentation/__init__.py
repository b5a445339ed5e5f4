"""Semantic segmentation: data, FCN, inference."""

from pixpro_keras.segmentation.fcn import FCN
from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_pipeline import CropConfig, make_crops, readable_batches
from pixpro_keras.segmentation.mask_source import MaskSource, resized
from pixpro_keras.segmentation.sliding_window import sliding_window_inference

__all__ = [
    "FCN",
    "CropConfig",
    "MaskSource",
    "make_crops",
    "open_masks",
    "readable_batches",
    "resized",
    "sliding_window_inference",
]
