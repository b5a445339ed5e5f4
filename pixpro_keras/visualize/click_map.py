"""A page on which a click shows what is similar, in one file that needs no server."""

import base64
import html
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pixpro_keras.utils.files import write_atomically

_TEMPLATE = pathlib.Path(__file__).with_name("click_map.html")
_SCALE = 127.0


def write_click_map(
    path: str | os.PathLike,
    images: np.ndarray,
    names: Sequence[str],
    features: np.ndarray,
    title: str,
) -> None:
    """Writes a page on which a click on a cell shows the cosine of every cell of all images to it.

    The features' directions are in the page as numbers of 8 bits, so that its cosines are within 0.02 of
    the exact ones.

    Args:
        path: the file, `.html`.
        images: `(B, H, W, 3)` uint8 RGB.
        names: B names, shown under the images.
        features: `(B, h, w, C)`.
        title: what the page says it shows, such as the backbone.

    Raises:
        ValueError: if there are not as many names, images and maps.
        OSError: if the file cannot be written.
    """
    if not len(images) == len(names) == len(features):
        raise ValueError(
            "`images`, `names` and `features` must be of one length. "
            f"Received: {len(images)}, {len(names)}, {len(features)}."
        )
    features = np.asarray(features, np.float32)
    peaks = np.abs(features).max(axis=-1, keepdims=True)
    # Each cell by its own largest channel: only directions count.
    codes = np.rint(features / np.maximum(peaks, 1e-12) * _SCALE).astype(np.int8)
    content = {
        "title": title,
        "names": [str(name) for name in names],
        "images": [_data_url(image) for image in images],
        "shape": list(features.shape),
        "features": base64.b64encode(codes.tobytes()).decode(),
    }
    # A "</" would end the script element, whatever it stands in.
    text = json.dumps(content).replace("<", "\\u003c")
    page = _TEMPLATE.read_text().replace("{{title}}", html.escape(title))
    write_atomically(path, page.replace("{{content}}", text).encode())


def _data_url(image: np.ndarray) -> str:
    jpeg = tf.io.encode_jpeg(image, quality=90).numpy()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
