"""The detectors by name."""

from pixpro_keras.detection.c4 import C4Detector
from pixpro_keras.detection.pyramid import FPNDetector

# Value of `--model` -> class, and whether it finds masks.
DETECTORS: dict[str, tuple[type[C4Detector] | type[FPNDetector], bool]] = {
    "faster_rcnn_c4": (C4Detector, False),
    "mask_rcnn_c4": (C4Detector, True),
    "mask_rcnn_fpn": (FPNDetector, True),
}
