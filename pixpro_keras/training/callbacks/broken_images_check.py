"""Check of the number of images that cannot be decoded."""

import keras

from pixpro_keras.data.broken_images import BrokenImages


class BrokenImagesCheck(keras.callbacks.Callback):
    """Ends the run once too many of its images cannot be decoded.

    Args:
        broken: count of these images, which the input pipeline updates.

    Raises:
        BrokenImagesError: while training, when there are too many.

    Example:
        ```python
        from pixpro_keras.data.broken_images import BrokenImages
        from pixpro_keras.data.sources import open_source
        from pixpro_keras.training.callbacks import BrokenImagesCheck

        source = open_source("scenes")
        check = BrokenImagesCheck(BrokenImages(source, max_share=0.01))  # of `callbacks` of `fit`
        ```
    """

    def __init__(self, broken: BrokenImages):
        super().__init__()
        self._broken = broken

    def on_train_batch_end(self, batch, logs=None):
        """Checks the count of broken images."""
        self._broken.check()
