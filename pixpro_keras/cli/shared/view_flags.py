"""Flags of the views in pre-training, and how they say that views are made."""

from typing import Any

from absl import flags

from pixpro_keras.cli.shared import backbone_flags  # noqa: F401 (--image_size)
from pixpro_keras.cli.shared.common_flags import FLAGS, must_be_positive
from pixpro_keras.data.pipeline import DataConfig
from pixpro_keras.data.transforms import recipes

flags.DEFINE_enum("augmentation", "byol", sorted(recipes.RECIPES), "Recipe of the two views.")
flags.DEFINE_float(
    "min_crop_area", 0.08, "Smallest crop, as a share of the image's area, in (0, 1]."
)
must_be_positive("min_crop_area")
flags.register_validator("min_crop_area", lambda value: value <= 1, "must be at most 1")


def build_config(**options: Any) -> DataConfig:
    """How the flags say that views are made.

    Args:
        **options: the other attributes of `DataConfig`.
    """
    return DataConfig(
        image_size=FLAGS.image_size,
        recipe=FLAGS.augmentation,
        crop_area=(FLAGS.min_crop_area, 1.0),
        seed=FLAGS.seed,
        **options,
    )
