"""Images of the embedded scenes."""

from pixpro_keras.data.sources.source import Source
from pixpro_keras.data.sources.tfds import from_builder, prepare_tfds


def open_scenes(specification: str, split: str, data_dir: str | None = None) -> Source:
    """Opens a split of the embedded scenes, which are drawn on first use.

    Args:
        specification: name of the source.
        split: TFDS split; empty is train.
        data_dir: folder in which TFDS keeps its data sets; None is TFDS's default.
    """
    return from_builder(specification, prepare_tfds("scenes", data_dir), split or "train")
