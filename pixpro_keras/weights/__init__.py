"""Weights in and out: load, convert, export, publish."""

from pixpro_keras.weights.card import CARD_FILE, write_card
from pixpro_keras.weights.constructors import (
    ResNet18V1_5,
    ResNet34V1_5,
    ResNet50V1_5,
    ResNet101V1_5,
    ResNet152V1_5,
)
from pixpro_keras.weights.export import FORMATS, check_format, export_backbone
from pixpro_keras.weights.fpn import FPN_FILE, find_fpn, load_fpn, save_fpn
from pixpro_keras.weights.hub import upload
from pixpro_keras.weights.load import load_backbone

__all__ = [
    "CARD_FILE",
    "FORMATS",
    "FPN_FILE",
    "ResNet18V1_5",
    "ResNet34V1_5",
    "ResNet50V1_5",
    "ResNet101V1_5",
    "ResNet152V1_5",
    "check_format",
    "export_backbone",
    "find_fpn",
    "load_backbone",
    "load_fpn",
    "save_fpn",
    "upload",
    "write_card",
]
