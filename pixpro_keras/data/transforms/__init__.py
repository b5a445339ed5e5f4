"""Augmentation of images: crops, colors, blur, puzzles."""

from pixpro_keras.data.transforms.crops import (
    crop_and_resize,
    overlap_share,
    random_flip,
    random_resized_crop_box,
)
from pixpro_keras.data.transforms.jigsaw import make_patches, patch_size
from pixpro_keras.data.transforms.recipes import (
    RECIPES,
    ViewRecipe,
    apply_photometric,
    apply_to_batch,
    moves_pixels,
    scale_blur,
    scale_colors,
)
from pixpro_keras.data.transforms.resize import resize_bilinear

__all__ = [
    "RECIPES",
    "ViewRecipe",
    "apply_photometric",
    "apply_to_batch",
    "crop_and_resize",
    "make_patches",
    "moves_pixels",
    "overlap_share",
    "patch_size",
    "random_flip",
    "random_resized_crop_box",
    "resize_bilinear",
    "scale_blur",
    "scale_colors",
]
