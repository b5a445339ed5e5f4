"""Options of the views in pre-training."""

import dataclasses
from typing import Any

from pixpro_keras.cli.options.backbone_options import BackboneOptions
from pixpro_keras.cli.options.option_fields import option
from pixpro_keras.cli.options.run_options import RunOptions
from pixpro_keras.data.pipeline import DataConfig
from pixpro_keras.data.transforms import recipes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewOptions(BackboneOptions, RunOptions):
    """Options of the views."""

    augmentation: str = option(
        "byol", "Recipe of the two views.", choices=sorted(recipes.RECIPES), is_main=True
    )
    min_crop_area: float = option(
        0.08, "Smallest area of a crop, as a fraction of the image, in (0, 1].", above=0, maximum=1
    )
    max_crop_area: float = option(
        1.0,
        "Largest area of a crop, as a fraction of the image, in (0, 1]. Below 1, views show parts at a "
        "larger scale, as a network sees them that is later applied to larger images.",
        above=0,
        maximum=1,
    )
    local_views: int = option(
        0,
        "Number of additional small views (multi-crop), which pixpro and pixcontrast compare with the "
        "target's features of both views. Four views of half the side cost as much as one full view.",
        minimum=0,
    )
    local_image_size: int = option(48, "Side of local views in pixels.", above=0)
    min_local_crop_area: float = option(
        0.05,
        "Smallest area of the crop of a local view; the largest is --min_crop_area.",
        above=0,
        maximum=1,
    )
    color_strength: float = option(
        1.0,
        "Factor of the color augmentation: jitter, grayscale and solarization. Below 1, features keep "
        "more color information.",
        minimum=0.0,
    )
    blur_strength: float = option(
        1.0,
        "Factor of the blur's standard deviation, which the recipes state for images of 224 px; 0 is no "
        "blur.",
        minimum=0.0,
    )


def data_config(options: ViewOptions, **others: Any) -> DataConfig:
    """Returns the configuration of the views.

    Args:
        options: recipe, crops, image size and seed.
        **others: the other attributes of `DataConfig`.
    """
    return DataConfig(
        image_size=options.image_size,
        recipe=options.augmentation,
        crop_area=(options.min_crop_area, options.max_crop_area),
        num_local_views=options.local_views,
        local_image_size=options.local_image_size,
        local_crop_area=(options.min_local_crop_area, options.min_crop_area),
        color_strength=options.color_strength,
        blur_strength=options.blur_strength,
        seed=options.seed,
        **others,
    )
