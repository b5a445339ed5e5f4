"""Pre-training methods: one class each."""

from pixpro_keras.methods.base import PretrainMethod
from pixpro_keras.methods.encoder import Encoder
from pixpro_keras.methods.pixcontrast import PixContrast
from pixpro_keras.methods.pixpro import PixPro

# Value of `--method` -> class.
METHODS: dict[str, type[PretrainMethod]] = {"pixpro": PixPro, "pixcontrast": PixContrast}

__all__ = ["METHODS", "Encoder", "PixContrast", "PixPro", "PretrainMethod"]
