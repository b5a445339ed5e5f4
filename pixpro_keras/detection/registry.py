"""Detectors by name."""

import dataclasses

import keras

from pixpro_keras.detection.c4_detector import C4Detector
from pixpro_keras.detection.detector import Detector, DetectorConfig
from pixpro_keras.detection.fpn_detector import FPNDetector
from pixpro_keras.utils import checks

# Name -> class, and whether the detector predicts masks.
_DETECTORS: dict[str, tuple[type[C4Detector] | type[FPNDetector], bool]] = {
    "faster_rcnn_c4": (C4Detector, False),
    "mask_rcnn_c4": (C4Detector, True),
    "mask_rcnn_fpn": (FPNDetector, True),
}


def available() -> list[str]:
    """Names of all detectors.

    Example:
        ```python
        from pixpro_keras import detection

        print(detection.available())
        ```
    """
    return list(_DETECTORS)


def predicts_masks(name: str) -> bool:
    """True if a detector predicts masks.

    Args:
        name: one of `available()`.

    Raises:
        ValueError: if there is no such detector.

    Example:
        ```python
        from pixpro_keras import detection

        print(detection.predicts_masks("mask_rcnn_fpn"))  # True
        ```
    """
    return _entry(name)[1]


def build(name: str, backbone: keras.Model, config: DetectorConfig, **kwargs) -> Detector:
    """Builds a detector on a backbone.

    Args:
        name: one of `available()`.
        backbone: functional model with maps C2 to C5.
        config: sizes; `with_masks` follows from the name.
        **kwargs: arguments of `Task`.

    Returns:
        The detector; all weights except those of the backbone are new.

    Raises:
        ValueError: if there is no such detector, or it does not support this backbone.

    Example:
        ```python
        import keras

        from pixpro_keras import detection

        inputs = x = keras.Input((None, None, 3))
        for _ in range(5):  # C1 to C5
            x = keras.layers.Conv2D(8, 3, 2, padding="same", activation="relu")(x)
        config = detection.DetectorConfig(num_classes=2)
        task = detection.build("faster_rcnn_c4", keras.Model(inputs, x), config)
        ```
    """
    detector_class, with_masks = _entry(name)
    config = dataclasses.replace(config, with_masks=with_masks)
    return detector_class(backbone, config, **kwargs)


def _entry(name: str) -> tuple[type[C4Detector] | type[FPNDetector], bool]:
    return _DETECTORS[checks.one_of("name", name, _DETECTORS)]
