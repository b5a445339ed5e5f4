"""Keras's image data format, which must be channels_last."""

import keras

from pixpro_keras.utils.errors import UserError


class DataFormatError(UserError, ValueError):
    """Keras's image data format is channels_first."""


def require_channels_last() -> None:
    """Checks that new layers of Keras take `(B, H, W, C)`, as all networks and methods here do.

    Raises:
        DataFormatError: if they take `(B, C, H, W)`.

    Example:
        ```python
        from pixpro_keras.backbones.data_format import require_channels_last

        require_channels_last()
        ```
    """
    data_format = keras.config.image_data_format()
    if data_format != "channels_last":
        raise DataFormatError(
            "Keras's image data format must be channels_last: call "
            'keras.config.set_image_data_format("channels_last"), or change `image_data_format` in '
            f"~/.keras/keras.json. Received: {data_format}."
        )
