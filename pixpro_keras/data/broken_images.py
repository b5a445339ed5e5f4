"""Images that cannot be decoded."""

import threading

from absl import logging

from pixpro_keras.data.sampler import CANDIDATES
from pixpro_keras.data.sources.source import Source
from pixpro_keras.utils.errors import UserError


class BrokenImagesError(UserError, RuntimeError):
    """Too many images of a source cannot be decoded."""


class BrokenImages:
    """Count of images that cannot be decoded; the log names each of them once.

    Args:
        source: source of the images.
        max_share: share of the source's images above which `check` raises.

    Example:
        ```python
        from pixpro_keras.data import BrokenImages, Source

        broken = BrokenImages(Source("ten", 10, lambda index: {}, str), max_share=0.2)
        broken.report(3, is_last=False)
        broken.check()
        assert broken.names == {3: "3"}
        ```
    """

    def __init__(self, source: Source, max_share: float):
        self._source = source
        self._max_share = max_share
        self._lock = threading.Lock()
        self._is_hopeless = False
        self.names: dict[int, str] = {}

    def report(self, index: int, is_last: bool) -> None:
        """Notes an image that cannot be decoded.

        Args:
            index: index of the image in the source.
            is_last: True if all candidates for its place in the batch have been tried now.
        """
        with self._lock:
            self._is_hopeless |= bool(is_last)
            if index not in self.names:
                self.names[index] = self._source.describe(index)
                logging.warning("skipped, cannot be decoded: %s", self.names[index])

    def check(self) -> None:
        """Raises `BrokenImagesError` once too many images are broken; called at every step."""
        allowed = self._max_share * self._source.num_examples
        with self._lock:
            names = list(self.names.values())
        if len(names) > allowed:
            why = f"more than the allowed share of {self._max_share:g}"
        elif self._is_hopeless:
            why = f"{CANDIDATES} of them in a row"
        else:
            return
        raise BrokenImagesError(
            f"{len(names)} of the {self._source.num_examples} images of {self._source.name} "
            f"cannot be decoded so far, {why}: {', '.join(names[:5])}"
        )
