"""Detectors for programs without Keras: an image in, boxes out."""

import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pixpro_keras.data.transforms.resize import resize_bilinear
from pixpro_keras.detection.box_pipeline import pad_image, scaled_size
from pixpro_keras.detection.canvases import fitting_canvas
from pixpro_keras.detection.detector import Detector
from pixpro_keras.types import Tensor


class ServedDetector(tf.Module):
    """A detector with its preprocessing and postprocessing.

    Args:
        detector: trained detector.
        preprocess: the backbone's input convention, of RGB images in 0..255.
        class_names: names of the detector's classes.
        short_side: length in pixels to which the short side is scaled.
        max_side: largest length of the long side in pixels; it takes precedence over `short_side`.

    Example:
        ```python
        import keras
        import numpy as np

        from pixpro_keras.detection import C4Detector, DetectorConfig, ServedDetector

        inputs = x = keras.Input((None, None, 3))
        for _ in range(5):  # C1 to C5
            x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
        detector = C4Detector(keras.Model(inputs, x), DetectorConfig(num_classes=2))
        served = ServedDetector(detector, lambda image: image / 255, ("cat", "dog"), 64, 96)
        print(served(np.zeros((40, 60, 3), "uint8")))
        ```
    """

    def __init__(
        self,
        detector: Detector,
        preprocess: Callable[[Tensor], Tensor],
        class_names: tuple[str, ...],
        short_side: int,
        max_side: int,
    ):
        super().__init__()
        # Layers are not tf.Modules, so their variables are tracked explicitly.
        self._variables = [variable.value for variable in detector.weights]
        self._detector = detector
        self._preprocess = preprocess
        self._class_names = class_names
        self._sides = short_side, max_side
        # A short side above the longest one is never reached.
        largest = np.array([[min(short_side, max_side), max_side]])
        wide = fitting_canvas(largest, short_side, max_side)
        self._padded_sizes = wide, wide[::-1]

    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8, name="image")])
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Detects the objects of one image of any size.

        Args:
            image: `(H, W, 3)` uint8 RGB.

        Returns:
            By decreasing score: `boxes` `(D, 4)`, `x1, y1, x2, y2` in the image's pixels; `scores`
            `(D,)`; `classes` `(D,)` int32; `names` `(D,)`; and, of a detector with masks, `masks`
            `(D, S, S)`: probabilities in each box.
        """
        size, scales = scaled_size(tf.shape(image)[:2], self._sides[0], self._sides[1])
        scaled = self._preprocess(resize_bilinear(image, size))
        area = tf.cast(size, tf.float32)[None]

        def padded_to(size: tuple[int, int]) -> dict[str, Tensor]:
            padded = tf.ensure_shape(pad_image(scaled, size), (*size, 3))
            return self._detector.detect(padded[None], area)

        wide, high = self._padded_sizes
        outputs = tf.cond(size[0] > size[1], lambda: padded_to(high), lambda: padded_to(wide))
        # Boxes with a score of 0 are padding.
        count = tf.reduce_sum(tf.cast(outputs["scores"][0] > 0, tf.int32))
        detections = {name: value[0, :count] for name, value in outputs.items()}
        detections["boxes"] /= tf.gather(scales, [1, 0, 1, 0])
        detections["names"] = tf.gather(tf.constant(self._class_names), detections["classes"])
        return detections


def save_detector(served: ServedDetector, path: pathlib.Path) -> None:
    """Writes a SavedModel, whose signature `serving_default` takes `image`.

    Args:
        served: detector with its preprocessing.
        path: folder of the SavedModel.

    Example:
        ```python
        import pathlib
        import tempfile

        import keras

        from pixpro_keras.detection import C4Detector, DetectorConfig, ServedDetector, save_detector

        inputs = x = keras.Input((None, None, 3))
        for _ in range(5):  # C1 to C5
            x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
        detector = C4Detector(keras.Model(inputs, x), DetectorConfig(num_classes=2))
        served = ServedDetector(detector, lambda image: image / 255, ("cat", "dog"), 64, 96)
        save_detector(served, pathlib.Path(tempfile.mkdtemp()) / "detector")
        ```
    """
    tf.saved_model.save(served, str(path), signatures=served.__call__)
