"""Errors about images that cannot be decoded."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from pixpro_keras.cli.options.option_fields import FlagError
from pixpro_keras.data.broken_images import NO_CLASS, first_broken, first_reason
from pixpro_keras.data.sources import Source
from pixpro_keras.segmentation.mask_source import MaskSource

# Parts of the errors of a data set, and of a traced step.
_OF_INPUT, _OF_STEP = "IteratorGetNext", "[Op:__inference_"


@contextlib.contextmanager
def image_errors(source: Source | MaskSource | str) -> Iterator[None]:
    """Context that converts TensorFlow's error about a broken image to one that names its file.

    Errors of the training itself, which come in the same classes, pass.

    Args:
        source: the images; a source that cannot be searched is its name alone.
    """
    try:
        yield
    # Errors of TensorFlow's decoders and of Python code called by them.
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.UnknownError,
        tf.errors.NotFoundError,
    ) as error:
        name = source if isinstance(source, str) else source.name
        reason = first_reason(error)
        if NO_CLASS in reason:
            raise FlagError(f"{name}: {reason}") from error
        is_of_input = _OF_INPUT in str(error)
        # Before the search: it takes long, and may find a broken image that was merely skipped.
        if not is_of_input and (isinstance(source, str) or _OF_STEP in str(error)):
            raise
        index = None if isinstance(source, str) else first_broken(source)
        if index is None and not is_of_input:
            raise
        which = f"an image of {name}" if index is None else source.describe(index)  # type: ignore[union-attr]
        raise FlagError(f"{which} cannot be decoded: {reason}") from error
