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
        0.08, "Smallest crop, as a share of the image's area, in (0, 1].", above=0, maximum=1
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
        crop_area=(options.min_crop_area, 1.0),
        seed=options.seed,
        **others,
    )
