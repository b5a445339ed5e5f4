"""Semantic segmentation: data, FCN, inference."""

from pixpro_keras.segmentation.fcn import FCN
from pixpro_keras.segmentation.mask_datasets import open_masks
from pixpro_keras.segmentation.mask_pipeline import CropConfig, image_batches, make_crops
from pixpro_keras.segmentation.mask_source import MaskSource, resized
from pixpro_keras.segmentation.sliding_window import sliding_window_inference

__all__ = [
    "FCN",
    "CropConfig",
    "MaskSource",
    "image_batches",
    "make_crops",
    "open_masks",
    "resized",
    "sliding_window_inference",
]
