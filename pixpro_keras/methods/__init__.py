"""Pre-training methods: one class each."""

from typing import Any

from pixpro_keras.methods.base import PretrainMethod
from pixpro_keras.methods.byol import BYOL
from pixpro_keras.methods.densecl import DenseCL
from pixpro_keras.methods.encoder import Encoder
from pixpro_keras.methods.infomin import InfoMin
from pixpro_keras.methods.instance_branch import InstanceBranch
from pixpro_keras.methods.moco import MoCo
from pixpro_keras.methods.pixcontrast import PixContrast
from pixpro_keras.methods.pixel_method import PixelMethod
from pixpro_keras.methods.pixpro import PixPro
from pixpro_keras.methods.simclr import SimCLR
from pixpro_keras.methods.slotcon import SlotCon
from pixpro_keras.methods.supervised import Supervised

# Name of a method -> class, and arguments that differ from the defaults of the class.
METHODS: dict[str, type[PretrainMethod]] = {
    "pixpro": PixPro,
    "pixcontrast": PixContrast,
    "simclr": SimCLR,
    "byol": BYOL,
    "moco": MoCo,
    "mocov2": MoCo,
    "infomin": InfoMin,
    "densecl": DenseCL,
    "slotcon": SlotCon,
    "supervised": Supervised,
}
METHOD_ARGUMENTS: dict[str, dict[str, Any]] = {
    "mocov2": {"num_projector_layers": 2, "temperature": 0.2},
}

__all__ = [
    "BYOL",
    "METHODS",
    "METHOD_ARGUMENTS",
    "DenseCL",
    "Encoder",
    "InfoMin",
    "InstanceBranch",
    "MoCo",
    "PixContrast",
    "PixPro",
    "PixelMethod",
    "PretrainMethod",
    "SimCLR",
    "SlotCon",
    "Supervised",
]
