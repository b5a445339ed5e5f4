"""Page of images on which a click shows similar cells, in one file that needs no server."""

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
    """Writes a page that shows the cosine similarity of all cells of all images to a clicked cell.

    The page contains the features as unit vectors of 8 bits, so that its cosines are within 0.02 of
    the exact ones.

    Args:
        path: path of the file, `.html`.
        images: `(B, H, W, 3)` uint8 RGB.
        names: B names, shown under the images.
        features: `(B, h, w, C)`.
        title: title of the page, such as the backbone's name.

    Raises:
        ValueError: if the numbers of names, images and maps differ.
        OSError: if the file cannot be written.

    Example:
        ```python
        import pathlib
        import tempfile

        import numpy as np

        from pixpro_keras.visualize import write_click_map

        images = np.random.randint(0, 256, (2, 64, 64, 3), "uint8")
        features = np.random.rand(2, 4, 4, 8)
        path = pathlib.Path(tempfile.mkdtemp()) / "clicks.html"
        write_click_map(path, images, ["one", "two"], features, "random features")
        ```
    """
    if not len(images) == len(names) == len(features):
        raise ValueError(
            "`images`, `names` and `features` must have the same length. "
            f"Received: {len(images)}, {len(names)}, {len(features)}."
        )
    features = np.asarray(features, np.float32)
    peaks = np.abs(features).max(axis=-1, keepdims=True)
    # Each cell is scaled by its largest channel, since only directions matter.
    codes = np.rint(features / np.maximum(peaks, 1e-12) * _SCALE).astype(np.int8)
    content = {
        "title": title,
        "names": [str(name) for name in names],
        "images": [_data_url(image) for image in images],
        "shape": list(features.shape),
        "features": base64.b64encode(codes.tobytes()).decode(),
    }
    # A "</" would end the script element, even inside a string.
    text = json.dumps(content).replace("<", "\\u003c")
    page = _TEMPLATE.read_text().replace("{{title}}", html.escape(title))
    write_atomically(path, page.replace("{{content}}", text).encode())


def _data_url(image: np.ndarray) -> str:
    jpeg = tf.io.encode_jpeg(image, quality=90).numpy()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
